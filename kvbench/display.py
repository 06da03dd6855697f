"""What a person sees while a run goes on, on the terminal and in its stdout.log alike."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path
from typing import IO, TypeVar

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.segment import Segments
from rich.text import Text as RichText

from kvbench.errors import RecordError, RunFailed, reason_of
from kvbench.plan import Plan
from kvbench.records.evidence import Stopping
from kvbench.records.run_record import RunRecord
from kvbench.records.samples import Prepared
from kvbench.records.scaling import Tried
from kvbench.records.sharing import Waiting
from kvbench.records.store import RECORD, StoredRun, read_record
from kvbench.records.timings import Block
from kvbench.report.console import RunRow, answer, comparison_table, outcome_lines, runs_table, verdict_panel
from kvbench.report.lengths import try_line
from kvbench.report.prose import Text as Prose
from kvbench.report.redaction import redacted_text
from kvbench.report.run_facts import phase_name
from kvbench.report.sentences import enumerated, own_words, say
from kvbench.running.job import Progress as PhaseProgress
from kvbench.running.job import Text
from kvbench.running.supervisor import Message
from kvbench.standard_streams import complain, drop_output
from kvbench.text import printable

Item = TypeVar("Item")

REFRESHES_PER_S = 2  # of the bar: ten of them, the default, take more of a core than everything else here
SHOWN_CHARACTERS = 240  # of a prompt on the terminal: about three lines


class _PatientConsole(Console):
    """Goes on in silence when nothing takes what it writes: the measurement and its record go on.

    A reader may have left, as `| head` does, a disk may be full, a terminal may have been closed.
    """

    def on_broken_pipe(self) -> None:
        self.quiet = True
        drop_output()

    def _check_buffer(self) -> None:
        try:
            super()._check_buffer()
        except OSError as error:
            self.on_broken_pipe()
            complain(f"standard output cannot be written ({error.strerror or error}); the run goes on without it")


class Display:
    """Lines, streamed text and one live progress bar; without a terminal, plain lines.

    `brief` tells each run in a line or two, as suits one of many.
    """

    def __init__(self, console: Console | None = None, *, brief: bool = False) -> None:
        self._brief = brief
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")  # a terminal without our characters still gets the figures
        self._console = console or _PatientConsole(highlight=False)
        self._log: IO[str] | None = None
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._phase = ""
        self._arms: tuple[str, ...] = ()

    @contextmanager
    def showing(self, plan: Plan, log: Path) -> Iterator[None]:
        """For the time of one run: also write to its log."""
        self._log = None
        with suppress(OSError):  # as when it is full: the log costs nothing but itself
            self._log = log.open("a", encoding="utf-8")
        file = self._log
        try:
            self._phase = ""
            self._arms = tuple(arm.label for arm in plan.arms)
            if not self._brief:
                self.say(_headline(plan))
            yield
        finally:
            self._hide_bar()
            self._log = None
            if file is not None:
                with suppress(OSError):  # a full disk: what was measured is told and kept by others than the log
                    file.close()

    def hear(self, message: Message) -> None:
        """Show what is worth showing of a measurement's messages."""
        match message:
            case PhaseProgress():
                self._show_phase(message)
            case Text() if not self._brief:
                self._show_text(message)
            case Prepared() if not self._brief:
                self._show_prepared(message)
            case Block():
                self._show_block(message)
            case Waiting():
                self.say(waiting_line(message))
            case Tried() if not self._brief:
                self.say(
                    try_line(self._arms[message.arm], message.axis, message.size, message.outcome, message.peak_bytes)
                )
            case Stopping() if not self._brief:
                self.say(say("terminal.stopped", reason=own_words(message.reason)))
            case _:
                pass

    def earlier(self, run: StoredRun) -> None:
        """A run that was measured before and need not be again."""
        self.outcome(run.record)
        self.say(say("terminal.earlier", folder=run.folder))

    def outcome(self, record: RunRecord) -> None:
        """The comparison table and the verdict."""
        if self._brief:
            self.say("\n".join(outcome_lines(record)))
            return
        if record.arms:
            self._print(comparison_table(record))
        self._print(verdict_panel(record))
        self._print(answer(record))

    def runs(self, rows: Sequence[RunRow]) -> None:
        """One line per run of a sweep."""
        self._print(runs_table(rows))

    def report(self, runs: Iterable[StoredRun], path: Path, wanted: str, notes: Sequence[str] = ()) -> None:
        """Write the HTML report unless the configuration says false, and tell where it is.

        Raises `RunFailed` when it cannot be written: the measurement was no bad input.
        """
        if wanted == "false":
            self.say_where(say("terminal.results"), path.parent)
            return
        from kvbench.report.page.html import build

        self._show_phase(PhaseProgress("writing the report", 0, None))
        try:
            build(runs, path, notes=notes)
        except (RecordError, OSError) as error:
            raise RunFailed(f"the report cannot be written ({error}); the records are in {path.parent}") from error
        finally:
            self._hide_bar()
        self.say_where(say("terminal.report"), path)

    def sweep_report(self, folders: Sequence[Path], path: Path, wanted: str, notes: Sequence[str] = ()) -> None:
        """The report over the runs in these folders, read back one by one."""
        self.report((StoredRun(read_record(folder / RECORD), folder) for folder in folders), path, wanted, notes)

    def track(self, run: StoredRun, tracker: str | None, failed: Callable[[str], None] = complain) -> None:
        """Send a run to the tracker that it names, and tell where it is.

        What fails there costs a line, which `failed` gets: the run has its record.
        """
        if tracker is None:
            return
        from kvbench.report.exports.trackers import send

        try:
            self.say(say("track.sent", tracker=tracker, place=send(run, tracker)))
        except (Exception, KeyboardInterrupt, SystemExit) as error:
            reason = redacted_text(reason_of(error)) or type(error).__name__
            failed(say("track.failed", tracker=tracker, reason=own_words(printable(reason))))

    def counted(self, items: Iterable[Item], total: int, phase: str) -> Iterator[Item]:
        """The items, with a bar that counts them; on a terminal alone."""
        for done, item in enumerate(items, start=1):
            yield item
            if self._console.is_terminal:
                self._move_bar(PhaseProgress(phase, done, total))
        self._hide_bar()

    def say(self, line: str) -> None:
        """One line of our own."""
        self._print(Prose(printable(line)))

    def say_where(self, what: str, path: Path) -> None:
        """Where something is, as a link that terminals open, on a line that is never broken."""
        line = printable(f"{what}: {path.absolute().as_uri()}")
        self._console.print(RichText(line), soft_wrap=True)
        self._write_log(f"{line}\n")

    def _print(self, renderable: RenderableType) -> None:
        self._hide_bar()
        # Laid out once, for both: a thousand runs of a sweep feel it.
        segments = list(self._console.render(renderable))
        self._console.print(Segments(segments), end="")
        self._write_log("".join(segment.text for segment in segments if not segment.control))

    def _write_log(self, text: str) -> None:
        if self._log is not None:
            try:
                self._log.write(text)
                self._log.flush()
            except OSError:  # the disk is full; the record will say so, or be the line that says it
                self._log = None

    def _show_phase(self, progress: PhaseProgress) -> None:
        if not self._console.is_terminal:
            if progress.phase != self._phase and not self._brief:
                self.say(f"{phase_name(progress.phase)} …")
        else:
            self._move_bar(progress)
        self._phase = progress.phase

    def _show_block(self, block: Block) -> None:
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=block.index + 1)

    def _show_prepared(self, prepared: Prepared) -> None:
        model, environment = prepared.model, prepared.environment
        parameters = model.get("parameters")
        facts = {
            "name": model["name"],
            "dtype": model["dtype"],
            "device": environment.get("device_name"),
            "seconds": f"{prepared.load_s:.1f}",
        }
        if parameters is None:
            self.say(say("terminal.loaded", **facts))
        else:
            self.say(say("terminal.loaded.size", millions=f"{parameters / 1e6:,.1f}", **facts))

    def _show_text(self, text: Text) -> None:
        self._hide_bar()
        if text.kind == "prompt":
            self._phase = "text"
            self._piece(f"\n› {_end_of(printable(text.text))}", style="bold")
        elif text.kind == "piece":
            self._piece(printable(text.text))
        else:
            self._piece("\n")

    def _piece(self, text: str, style: str = "") -> None:
        self._console.print(RichText(text, style=style), end="", soft_wrap=True)
        self._write_log(text)

    def _move_bar(self, progress: PhaseProgress) -> None:
        if self._bar is None or self._task is None:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=30),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
                refresh_per_second=REFRESHES_PER_S,
            )
            self._task = self._bar.add_task(phase_name(progress.phase), total=progress.total, completed=progress.done)
            self._bar.start()
        elif progress.phase != self._phase:
            self._bar.reset(
                self._task, description=phase_name(progress.phase), total=progress.total, completed=progress.done
            )
        else:
            self._bar.update(self._task, total=progress.total, completed=progress.done)

    def _hide_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def waiting_line(waiting: Waiting) -> str:
    """For whom a run waits."""
    if waiting.holder is None:
        return say("terminal.waiting.unknown", device=waiting.device)
    holder = waiting.holder
    facts = {
        "device": waiting.device,
        "run": holder.run,
        "pid": holder.pid,
        "since": holder.since.partition(".")[0].replace("T", " "),
    }
    return say("terminal.waiting.host" if holder.device == "host" else "terminal.waiting", **facts)


def _end_of(prompt: str) -> str:
    """The end of a long prompt: what the continuation follows."""
    return prompt if len(prompt) <= SHOWN_CHARACTERS else f"… {prompt[-SHOWN_CHARACTERS:]}"


def _headline(plan: Plan) -> str:
    workload = plan.config.workload
    if plan.prompts.lengths:
        lengths = enumerated([f"{length:,}" for length in plan.prompts.lengths])
        prompts = say("terminal.prompts-of", count=plan.prompts.copies, lengths=lengths)
    else:
        prompts = say("terminal.prompts", count=len(plan.prompts.texts))
    return say(
        "terminal.headline",
        model=plan.model_name,
        arms=say("between.rivals").join(arm.label for arm in plan.arms),
        prompts=prompts,
        new=workload.new_tokens,
        batch=workload.batch_size,
    )
