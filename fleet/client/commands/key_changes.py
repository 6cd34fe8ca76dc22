"""``edgefleet keys renew|rotate|revoke|sign|submit``: keys change hands, on one machine or from holder to holder."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from securesystemslib.signer import Key, Signer

from fleet.client import config
from fleet.client.api import Fleet
from fleet.client.commands.online import public_key
from fleet.client.screen import Json, Screen
from fleet.client.signing import ceremony
from fleet.client.signing.ceremony import Change
from fleet.client.signing.offline_keys import new_key, signers
from fleet.client.signing.trusted import Trusted
from modules.errors import BadSettings, Untrusted
from modules.trust import roles

ONLINE: Final = (roles.SNAPSHOT, roles.TIMESTAMP, ceremony.DIRECTOR)
# So many letters of a key id are enough to name it.
_SHORTEST: Final = 8

Keys = Annotated[
    list[str] | None, typer.Option("--key", help="A key file or signer URI to sign with; may be repeated.")
]
Draft = Annotated[
    Path | None, typer.Option(help="Write what is to be signed into this folder, which travels, and send nothing.")
]
Role = Annotated[str, typer.Argument(help="root, targets, team-NAME, director, snapshot or timestamp.")]


def renew(
    role: Annotated[list[str], typer.Argument(help="root, targets or team-NAME; several at once.")],
    *,
    key: Keys = None,
    draft: Draft = None,
    above: Annotated[
        int,
        typer.Option(min=0, max=1_000_000, help="After a restored backup: the highest version that devices saw."),
    ] = 0,
    as_json: Json = False,
) -> None:
    """Sign roles again before they expire; nothing else in them changes."""
    holders = signers(key or ())
    with Fleet(config.load()) as fleet:
        trusted = Trusted(fleet, config.home())
        present = trusted.present(bins_of=role)
        change = ceremony.renewal(present, list(dict.fromkeys(role)), now=datetime.now(UTC), above=above)
        _finish(Screen(as_json=as_json), change, holders, fleet, draft, skip=above > 0)


def rotate(
    role: Role,
    *,
    key: Keys = None,
    new: Annotated[
        list[str] | None,
        typer.Option("--new-key", help="A key file, a signer URI, or a PEM file of a public half; may be repeated."),
    ] = None,
    out: Annotated[
        list[str] | None, typer.Option(help="Take this key out, and keep the others; without it, all present ones go.")
    ] = None,
    add: Annotated[bool, typer.Option("--add", help="Keep all present keys beside the new ones.")] = False,
    draft: Draft = None,
    as_json: Json = False,
) -> None:
    """Give a role new keys in place of its present ones; online roles get the key that was made on the server."""
    screen, made, holders = Screen(as_json=as_json), [new_key(one) for one in new or ()], signers(key or ())
    with Fleet(config.load()) as fleet:
        present = Trusted(fleet, config.home()).present(bins_of=[role])
        before = ceremony.keys_of(present, role)
        fresh = _staged(fleet, role, made_here=bool(made)) if role in ONLINE else [one.public for one in made]
        if not fresh:
            raise BadSettings("no new key is named", element="--new-key", remedy="make one: edgefleet keys make FILE")
        leaving = {_chosen(before, one, role) for one in out or ()}
        staying = [one for keyid, one in before.items() if (add or leaving) and keyid not in leaving]
        change = ceremony.replacement(present, role, [*staying, *fresh], now=datetime.now(UTC))
        # Who brings a new key along signs with it, where it has something to sign.
        own = [one.signer for one in made if one.signer is not None]
        holders += [one for one in own if any(one.public_key.keyid in change.may_sign(role) for role in change.parts)]
        _finish(screen, change, holders, fleet, draft)


def revoke(
    role: Role,
    keyid: Annotated[str, typer.Argument(help="The key's id, or its first 8 letters or more.")],
    *,
    key: Keys = None,
    draft: Draft = None,
    as_json: Json = False,
) -> None:
    """Take a stolen or lost key out of its role without another in its place, if enough are left to sign."""
    screen, holders = Screen(as_json=as_json), signers(key or ())
    with Fleet(config.load()) as fleet:
        present = Trusted(fleet, config.home()).present(bins_of=[role])
        before = ceremony.keys_of(present, role)
        leaving = _chosen(before, keyid, role)
        left = [one for one in before if one != leaving]
        threshold = ceremony.threshold_of(present, role)
        if len(left) < threshold:
            raise BadSettings(
                f"too few keys would be left: {len(left)}, and {threshold} must sign",
                element=role,
                remedy=_instead(role, leaving),
            )
        change = ceremony.replacement(present, role, [before[one] for one in left], now=datetime.now(UTC))
        _finish(screen, change, holders, fleet, draft)
    if len(left) == threshold > 1:
        screen.remark(
            f"{role} has {len(left)} keys now and needs all of them: with one more lost, nobody can sign. "
            f"Name another soon: edgefleet keys rotate {role} --add --new-key FILE"
        )


def sign(
    place: Annotated[Path, typer.Argument(help="The folder that --draft wrote, or a file in it.")],
    *,
    key: Annotated[list[str], typer.Option(help="A key file or signer URI; may be repeated.")],
    as_json: Json = False,
) -> None:
    """Add signatures to drafts; needs no network. Look at what is printed: that is what you sign."""
    screen, change = Screen(as_json=as_json), ceremony.read(place)
    signed = change.sign(signers(key))
    ceremony.write(place if place.is_dir() else place.parent, change)
    shown = {"state": "signed", "signed": signed, "drafts": ceremony.described(change), "missing": change.missing()}
    screen.show(shown, lambda it: _show(it, shown))


def submit(
    place: Annotated[Path, typer.Argument(help="The folder that --draft wrote, with all signatures.")],
    *,
    restored: Annotated[
        bool, typer.Option("--restored", help="After a restored backup: targets and teams may skip versions.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Send signed drafts to the fleet server, which takes all of them or none."""
    change = ceremony.read(place)
    with Fleet(config.load()) as fleet:
        Trusted(fleet, config.home()).present()  # pins the root, where this machine has none yet
        _finish(Screen(as_json=as_json), change, (), fleet, None, skip=restored)


def _finish(
    screen: Screen, change: Change, holders: Sequence[Signer], fleet: Fleet, draft: Path | None, *, skip: bool = False
) -> None:
    """Sign, and send what is complete, or write it down for the next holder."""
    signed = change.sign(holders)
    missing = change.missing()
    shown: dict[str, Any] = {"signed": signed, "drafts": ceremony.described(change), "missing": missing}
    if draft is not None:
        shown |= {"state": "drafted", "folder": str(draft), "files": ceremony.write(draft, change)}
    elif missing:
        said = "; ".join(f"{role}: {words}" for role, lacking in missing.items() for words in lacking)
        raise Untrusted(
            f"too few keys have signed. {said}",
            element=", ".join(missing),
            remedy="bring their keys with --key, or let the draft travel to their holders: --draft FOLDER, then "
            "edgefleet keys sign FOLDER and edgefleet keys submit FOLDER",
        )
    else:
        shown |= {"state": "sent", "changed": fleet.update_trust(change.document() | {"skip": skip})}
        Trusted(fleet, config.home()).present()  # what the server publishes now follows from the pinned root
    screen.show(shown, lambda it: _show(it, shown))


def _show(screen: Screen, shown: dict[str, Any]) -> None:
    for one in shown["drafts"]:
        _describe(screen, one)
    for keyid, signed in shown["signed"].items():
        screen.say(f"Signed with {keyid[:12]}: {', '.join(signed)}")
    for role, lacking in shown["missing"].items():
        for words in lacking:
            screen.say(f"Missing for {role}: {words}")
    if shown["state"] == "sent":
        screen.say(f"The fleet server took it and publishes it: {', '.join(shown['changed']) or 'nothing new'}.")
    elif shown["missing"]:
        where = shown.get("folder", "the folder")
        screen.say(f"Next: bring {where} to the next holder, who runs: edgefleet keys sign FOLDER --key KEY")
    else:
        screen.say("Nothing is missing. Next, where the fleet server can be reached: edgefleet keys submit FOLDER")


def _describe(screen: Screen, one: dict[str, Any]) -> None:
    if one["role"] == ceremony.DIRECTOR:
        screen.say(f"{one['role']}: its keys are {', '.join(key[:12] for key in one['keys'])}")
        return
    screen.say(f"{one['role']}: version {one['version']}, holds until {one['expires']}")
    if one["bins"]:
        screen.say(f"  and its {one['bins']} bins")
    for word in ("added", "removed"):
        for role, changed in one[word].items():
            for key in changed:
                screen.say(f"  {role}: key {key[:12]} is {word}")


def _staged(fleet: Fleet, role: str, *, made_here: bool) -> list[Key]:
    if made_here:
        raise BadSettings(
            "this key is made on the fleet server and never leaves it",
            element="--new-key",
            remedy=f"on the server: edgefleet-fleet keys new {role}",
        )
    waiting = fleet.staged_keys().get(role)
    if waiting is None:
        raise BadSettings(
            f"no new key of {role} waits on the fleet server",
            element=role,
            remedy=f"make one there: edgefleet-fleet keys new {role}",
        )
    return [public_key(waiting)]


def _chosen(keys: dict[str, Key], part: str, role: str) -> str:
    """The key id that begins so."""
    found = [keyid for keyid in keys if keyid.startswith(part)] if len(part) >= _SHORTEST else []
    if len(found) != 1:
        raise BadSettings(
            f"{'no key' if not found else 'more than one key'} of the role has an id that begins with {part}"
            if len(part) >= _SHORTEST
            else f"{len(part)} letters are too few to name a key",
            element=role,
            remedy=f"name one of: {', '.join(keys)}",
        )
    return found[0]


def _instead(role: str, keyid: str) -> str:
    if role in ONLINE:
        return (
            f"make a new one on the server and name that: edgefleet-fleet keys new {role}; edgefleet keys rotate {role}"
        )
    return f"put a new key in its place: edgefleet keys rotate {role} --out {keyid[:12]} --new-key FILE"
