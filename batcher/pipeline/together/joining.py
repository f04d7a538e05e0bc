"""Before a process joins others in a run: who works already, and whether they mean the same."""

from batcher.errors import ChangedSettings, InputChanged
from batcher.ledger import runs
from batcher.ledger.connect import Connection
from batcher.ledger.owner import sharing
from batcher.pipeline.job import Job, Services


def join_others(
    connection: Connection, run_id: int, job: Job, services: Services
) -> frozenset[int]:
    """The invocations that do the run at present; nobody else joins until the commit.

    Where there is none, what earlier ones had shared out is forgotten.

    Raises:
        ChangedSettings: they work with other settings.
        InputChanged: they read other inputs.
    """
    sharing.lock_run(connection, run_id)
    living = frozenset(sharing.living_invocations(connection, job.key))
    if not living:
        sharing.forget_shards(connection, run_id)
        sharing.forget_members(connection, job.key)
        return living
    theirs, parts = runs.last_settings(connection, run_id)
    if theirs != job.settings.digest():
        raise ChangedSettings(
            "other processes do this run with other settings"
            f"{job.settings.changes(parts)}; use theirs, or wait until they have ended"
        )
    known = runs.latest_sources(connection, run_id)
    for file in services.files:
        stored = known.get(runs.name_of(known, file.name, file.location))
        if stored is None or stored.fingerprint != file.fingerprint():
            raise InputChanged(
                f"{file.name}: is not the file that the other processes of this run read (size,"
                " time of change or content differ); wait until they have ended, or copy theirs"
                " with its time of change"
            )
    return living
