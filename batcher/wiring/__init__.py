"""From settings to ready objects: `resolve` reads what was asked, `ready` makes it run."""

from batcher.wiring.dated import command_of
from batcher.wiring.process import SharedProcess
from batcher.wiring.ready import (
    checked_files,
    inspect_inputs,
    price_book,
    price_list,
    price_note,
    price_words,
    rater_of,
    request_builder,
    services_for,
    spool_folder,
)
from batcher.wiring.resolve import (
    Asked,
    asked,
    job_file,
    job_files,
    place_of,
    resolve,
    settings_of,
)
from batcher.wiring.run import (
    ScheduledJob,
    check_together,
    json_summary,
    output_of,
    run,
    scheduled,
)
from batcher.wiring.watching import watched

__all__ = [
    "Asked",
    "ScheduledJob",
    "SharedProcess",
    "asked",
    "check_together",
    "checked_files",
    "command_of",
    "inspect_inputs",
    "job_file",
    "job_files",
    "json_summary",
    "output_of",
    "place_of",
    "price_book",
    "price_list",
    "price_note",
    "price_words",
    "rater_of",
    "request_builder",
    "resolve",
    "run",
    "scheduled",
    "services_for",
    "settings_of",
    "spool_folder",
    "watched",
]
