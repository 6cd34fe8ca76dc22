"""The usual questions about a fleet, as views of the file that ``edgefleet export`` writes."""

from typing import Final, NamedTuple


class View(NamedTuple):
    """A question by name, in words, and as SQL."""

    name: str
    about: str
    sql: str


RUNS: Final = View(
    "runs",
    "What runs where: what each slot of each device is ordered to run, and what answers there.",
    """
    SELECT reports.device, reports.slot, serving_module AS runs, slots.module AS ordered, phase, health, provider,
           reports.reason, devices.online, devices.last_seen
    FROM reports JOIN devices ON devices.id = reports.device
    LEFT JOIN slots ON slots.device = reports.device AND slots.slot = reports.slot
    WHERE devices.removed IS NULL
    """,
)
VERSIONS_BY_SITE: Final = View(
    "versions_by_site",
    "How many devices of each site (the label `site`) run which module in which slot, and how many of them are well.",
    """
    SELECT coalesce(labels.value, '') AS site, reports.slot, coalesce(serving_module, '') AS runs,
           count(*) AS devices, sum(health = 'up') AS up
    FROM reports JOIN devices ON devices.id = reports.device
    LEFT JOIN labels ON labels.device = reports.device AND labels.label = 'site'
    WHERE devices.removed IS NULL
    GROUP BY 1, 2, 3
    """,
)
FAILURES_BY_REASON: Final = View(
    "failures_by_reason",
    "Why devices failed in each rollout: the error's code, one of its sentences, and how many devices it was.",
    """
    SELECT members.rollout, rollouts.module, coalesce(reason_code, '') AS code,
           max(coalesce(nullif(note, ''), reason, '')) AS example, count(*) AS devices
    FROM members JOIN rollouts ON rollouts.id = members.rollout
    WHERE standing = 'failed'
    GROUP BY 1, 2, 3
    """,
)
ROLLOUT_PROGRESS: Final = View(
    "rollout_progress",
    "How far each rollout is: devices by where they stand, and the share that has committed, in percent.",
    """
    SELECT rollouts.id AS rollout, rollouts.module, rollouts.slot, state, rollouts.wave, waves,
           count(members.device) AS devices,
           count(CASE standing WHEN 'planned' THEN 1 END) AS planned,
           count(CASE standing WHEN 'working' THEN 1 END) AS working,
           count(CASE standing WHEN 'succeeded' THEN 1 END) AS succeeded,
           count(CASE standing WHEN 'failed' THEN 1 END) AS failed,
           count(CASE standing WHEN 'unreached' THEN 1 END) AS unreached,
           round(100.0 * count(CASE standing WHEN 'succeeded' THEN 1 END) / max(count(members.device), 1), 1)
               AS percent,
           rollouts.created, rollouts.waits_for
    FROM rollouts LEFT JOIN members ON members.rollout = rollouts.id
    GROUP BY rollouts.id
    """,
)
SILENT_DEVICES: Final = View(
    "silent_devices",
    "Devices that the server had not heard of for a day when the file was written.",
    """
    SELECT devices.id AS device, last_seen,
           round(julianday(export.at) - julianday(coalesce(last_seen, enrolled)), 1) AS days
    FROM devices, export
    WHERE removed IS NULL AND julianday(export.at) - julianday(coalesce(last_seen, enrolled)) >= 1
    """,
)
MACHINES: Final = View(
    "machines",
    "The newest figures of each device's machine, side by side.",
    """
    SELECT device, max(received) AS received,
           max(CASE figure WHEN 'cpu_percent' THEN value END) AS cpu_percent,
           max(CASE figure WHEN 'memory_used_percent' THEN value END) AS memory_used_percent,
           max(CASE figure WHEN 'disk_free_mb' THEN value END) AS disk_free_mb,
           max(CASE figure WHEN 'disk_used_percent' THEN value END) AS disk_used_percent,
           max(CASE figure WHEN 'temperature_c' THEN value END) AS temperature_c,
           max(CASE figure WHEN 'uptime_s' THEN value END) AS uptime_s
    FROM telemetry WHERE stream = 'host' AND slot = ''
    GROUP BY device
    """,
)
TELEMETRY_BY_HOUR: Final = View(
    "telemetry_by_hour",
    "Each figure of each device and slot hour by hour, by the device's clock: how many samples, least, mean and most.",
    """
    SELECT device, stream, slot, figure, substr(coalesce(at, received), 1, 13) || ':00:00.000Z' AS hour,
           count(*) AS samples, min(value) AS least, avg(value) AS mean, max(value) AS most
    FROM telemetry_history
    GROUP BY 1, 2, 3, 4, 5
    """,
)
VIEWS: Final = (
    RUNS,
    VERSIONS_BY_SITE,
    FAILURES_BY_REASON,
    ROLLOUT_PROGRESS,
    SILENT_DEVICES,
    MACHINES,
    TELEMETRY_BY_HOUR,
)
