"""The namespace of a lasting session: brought back from where it was saved, and saved. Both happen in its sandbox."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import trio

from supervisor.errors import GaolerError, NotFound
from supervisor.execution.results import Results, shown_text
from supervisor.execution.tier import TIERS, is_below, state_label, state_tier
from supervisor.execution.values import SessionId, Tier
from supervisor.jailer.client import JailRefused, RemoteJail
from supervisor.live.lease import Hold
from supervisor.live.means import Means

log: Final = logging.getLogger("gaoler.live")

SHOWN_UNSAVED: Final = 8
_WORKER_GONE: Final = "the worker that had this session is gone"


async def restore(
    means: Means,
    session_id: SessionId,
    tier: Tier,
    jail: RemoteJail,
    results: Results,
    hold: Hold,
) -> bool:
    """Bring the saved namespace back, if there is one; what the caller has to know goes into the notes.

    Says whether there is a namespace now.
    """
    limits = means.limits
    lost = means.take_loss(session_id)
    if lost is not None:
        results.notes.append(lost)
    state = await means.files.saved_state(session_id)
    if state is None or state.profile not in [state_label(limits.profile, each) for each in TIERS]:
        if hold.taken_from is not None:
            results.notes.append(f"{_WORKER_GONE}, and with it the variables of earlier executions; the files are kept")
        return False
    if is_below(tier, state_tier(state.profile)):
        results.notes.append(
            f"the variables of earlier executions are not brought back: they are of tier {state_tier(state.profile)}, "
            "which is not to be had now"
        )
        return False
    try:
        with trio.fail_after(limits.save_seconds):
            async with means.files.state_content(state) as content:
                await jail.restore(state.size_bytes, content)
    except (JailRefused, NotFound, trio.TooSlowError) as error:
        reason = shown_text(str(error) or "it took too long")
        log.warning("state not restored session=%s reason=%s", session_id, ascii(reason))
        results.notes.append(f"the variables of earlier executions could not be restored: {reason}")
        means.restores["failed"] += 1
        return False
    means.restores["done"] += 1
    results.notes.append(restored_note(state.untrusted_unsaved))
    if hold.taken_from is not None:
        saved = datetime.fromtimestamp(state.saved_at, UTC).isoformat(" ", "seconds")
        results.notes.append(f"{_WORKER_GONE}: the variables are as they were when they were last saved, at {saved}")
    return True


async def save(
    means: Means, session_id: SessionId, tier: Tier, jail: RemoteJail, hold: Hold, wanted: Callable[[], bool]
) -> str | None:
    """Save the namespace, shielded and within its time; give why it could not be, or ``None``.

    ``wanted`` is asked when it is written down: its owner may have closed the session meanwhile.
    """
    limits, files = means.limits, means.files
    why: str | None = "saving them took too long"
    with trio.CancelScope(shield=True), trio.move_on_after(limits.save_seconds):
        try:
            async with jail.save(limits.state_bytes) as (saved, content):
                blob = await files.store_state(content, limits.state_bytes)
            if wanted():
                unsaved = saved.untrusted_unsaved
                label = state_label(limits.profile, tier)
                await files.keep_state(session_id, label, blob, limits.archive_seconds, unsaved, fence=hold.fence)
            log.info("session saved session=%s bytes=%d", session_id, saved.size)
            why = None
        except (JailRefused, GaolerError) as error:
            why = f"they could not be saved: {shown_text(str(error))}"
    means.saves["done" if why is None else "failed"] += 1
    if why is not None:
        log.warning("session not saved session=%s reason=%s", session_id, ascii(why))
    return why


def restored_note(untrusted_unsaved: tuple[tuple[str, str], ...]) -> str:
    """Say what came back and what did not."""
    note = "the interpreter was started anew and the variables of earlier executions were restored"
    if untrusted_unsaved:
        shown = [f"{shown_text(name)} ({shown_text(why)})" for name, why in untrusted_unsaved[:SHOWN_UNSAVED]]
        more = len(untrusted_unsaved) - len(shown)
        note += ", except " + ", ".join(shown) + (f" and {more} more" if more else "")
    return note
