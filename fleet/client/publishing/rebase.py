"""A new scoring image under an unchanged model: the next version, once the new image gives the old answers."""

import shutil

import httpx
import msgspec

from fleet.client.api import Fleet
from fleet.client.local.scorers import Scorer, container_scorer
from fleet.client.publishing.pack import check_files, write_manifest
from fleet.client.publishing.publish import Registered, publish
from fleet.client.screen import Step
from fleet.client.workspace import FILES, Workspace
from modules import samples as samples_file
from modules.errors import Invalid, Unproved, WrongAnswer
from modules.images import read_config
from modules.manifest import Image, Manifest
from modules.names import ModuleRef
from modules.samples import Samples, differences
from modules.unpacked import sized


def rebase(
    ref: ModuleRef, image: Image, fleet: Fleet, workspace: Workspace, step: Step, *, accelerator: str = "cpu"
) -> Registered:
    """Publish a draft that differs from ``ref`` in its version and in the image of one runtime.

    Raises:
        NeedsOperator: the module was not packed on this machine.
        Invalid: its files have changed, or it has no runtime for the image's platform.
        WrongAnswer: the new image answers a sample differently.
        NotReady, NoEngine: it does not start here.
        EdgefleetError: as :class:`Fleet`.
    """
    manifest, _ = workspace.manifest(ref)
    check_files(manifest, workspace.module(ref), step)
    image = sized(image, workspace.blobs)
    changed = with_image(manifest, image, read_config(image, workspace.blobs).platform, accelerator)
    with workspace.staging() as folder:
        shutil.copytree(workspace.module(ref) / FILES, folder / FILES)
        write_manifest(changed, folder)
        step(f"starting the scoring server in {image.name}", 0, 0)
        memory_mb = manifest.proof.limits.memory_mb
        with container_scorer(folder, image, workspace.blobs, memory_mb=memory_mb, step=step) as scorer:
            if manifest.proof.prove == "samples":
                data = (folder / FILES / manifest.proof.samples).read_bytes()
                hold(samples_file.decode(data), scorer, step)
        return publish(changed, folder, fleet, workspace, step)


def with_image(manifest: Manifest, image: Image, platform: str, accelerator: str) -> Manifest:
    """The same manifest with another image in the runtime of this platform and accelerator.

    Raises:
        Invalid: there is none, or it has this image already.
    """
    runtimes = tuple(
        msgspec.structs.replace(one, image=image) if (one.platform, one.accelerator) == (platform, accelerator) else one
        for one in manifest.runtimes
    )
    if runtimes == manifest.runtimes:
        here = any((one.platform, one.accelerator) == (platform, accelerator) for one in runtimes)
        raise Invalid(
            "it has this image already" if here else f"it has no runtime for {platform} {accelerator}",
            element=str(manifest.ref),
            remedy="name another image or --accelerator",
        )
    return msgspec.structs.replace(manifest, runtimes=runtimes)


def hold(samples: Samples, scorer: Scorer, step: Step) -> None:
    """Ask every sample; all must be answered as before.

    Raises:
        WrongAnswer: they are not.
        Unproved: there was no answer.
    """
    for number, sample in enumerate(samples.samples):
        step("asking the samples", number, len(samples.samples))
        headers = {"Content-Type": sample.content_type}
        try:
            answer = scorer.http.request(sample.method, sample.path, content=sample.body, headers=headers)
        except httpx.HTTPError as error:
            raise Unproved(f"the new image gave no answer: {error}", element=f"sample {sample.name}") from error
        if wrong := differences(sample, answer.status_code, answer.content):
            raise WrongAnswer(
                f"the new image answers differently: {'; '.join(wrong)}",
                element=f"sample {sample.name}",
                remedy="keep the old image, or register the model again with the new one",
            )
