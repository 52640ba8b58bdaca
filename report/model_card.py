"""The card of a model in plain words: what it is, what it promises, how it is used."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ground.text import visible

LISTED = 500
"""Machines."""


def model_card(facts: Mapping[str, Any]) -> str:
    """Write the Markdown text of `card.md` from the content of `model.json`."""
    machines = facts["machines"]
    n = sum(len(machine["ids"]) for machine in machines)
    made = f"on {facts['created'][:10]} by version {facts['package']}"
    parts = [
        "# A model of normal machine sounds",
        f"It judges whether a new recording of {'this machine' if n == 1 else 'these machines'} "
        f"sounds as the normal recordings did that it was learned from. It was made {made}.",
        "## Machines",
        *_machines(machines),
        "## What is promised",
        _promise(facts["settings"]),
        "## How to use it",
        "    python run_pipeline.py check RECORDINGS --model THIS_FOLDER --explain",
        "The folder can be moved and copied as a whole. Opening it runs no code.",
        "## Limits",
        *_limits(facts),
        "## How it was learned",
        *_how(facts),
    ]
    return "\n\n".join(parts) + "\n"


def _machines(machines: list[Mapping[str, Any]]) -> list[str]:
    """List the machines: recordings, minutes, what is promised, what is worth a listen."""
    lines = []
    for machine in machines[:LISTED]:
        own = machine["facts"]
        name = _name(machine["machine_type"], machine["machine_id"])
        counts = f"{machine['n_train']} training clips"
        if "recordings" in own:
            counts = f"{own['recordings']} recordings, {own['minutes']:.1f} minutes"
        more = [own.get("promise", ""), *own.get("notes", ()), *own.get("changed", ())]
        if listen := own.get("worth_a_listen"):
            more.append(f"worth a listen: {', '.join(listen[:5])}")
        if len(machine["ids"]) > 1:
            more.append(f"IDs: {', '.join(machine['ids'])}")
        lines.append("- " + visible("; ".join([f"{name}: {counts}", *filter(None, more)])))
    if len(machines) > LISTED:
        lines.append(f"- and {len(machines) - LISTED} more in model.json")
    return ["\n".join(lines)]


def _name(machine_type: str, machine_id: str) -> str:
    return f"{machine_type} {machine_id}".strip()


def _promise(settings: Mapping[str, Any]) -> str:
    if settings.get("false_alarms") == "none":
        return "Nothing: it was made without thresholds, and gives scores only."
    if settings.get("threshold") == "gamma":
        return "Nothing: its thresholds come from a gamma distribution, for comparison."
    scope = ", in each domain" if settings.get("threshold") == "domains" else ""
    return (
        "Of new normal recordings that are made as the learned ones were, at most the share that "
        f"is named for each machine is called anomalous, on average{scope}. No share of found "
        "faults is promised: faults were not there to learn from."
    )


def _limits(facts: Mapping[str, Any]) -> list[str]:
    """List what a verdict of this model does not say."""
    limits = [
        "- Another microphone, place, gain or operating mode than in training is not a fault, but "
        "sounds like one. `check` remarks what it can tell of that.",
        "- Faults among the learned recordings count as normal: listen to the clips named above.",
        "- It does not learn from what it checks. `learn --add` adds recordings, and "
        "`learn --recalibrate` takes new thresholds.",
    ]
    if any(not member["configuration"] for member in facts["members"]):
        limits.append("- Its vectors came from another tool, so it cannot check new recordings.")
    if any(
        member["configuration"].get("rebuild", {}).get("encoder_options", {}).get("weights")
        == "random"
        for member in facts["members"]
    ):
        limits.append("- An encoder has random weights: its scores say nothing about that encoder.")
    return ["\n".join(limits)]


def _how(facts: Mapping[str, Any]) -> list[str]:
    """Name members, preprocessing, data and versions."""
    lines = [f"- member: {member['name']}" for member in facts["members"]]
    if len(facts["members"]) > 1:
        lines.append(f"- fused by the rule: {facts['rule']}")
    settings = facts["settings"]
    for name in ("normalize", "trim", "denoise", "channel", "short", "window", "hop", "set"):
        if value := settings.get(name):
            shown = ", ".join(value) if isinstance(value, list) else value
            lines.append(f"- {name}: {shown}")
    lines += [f"- recordings: {path}" for path in facts["data"]]
    libraries = ", ".join(f"{name} {version}" for name, version in facts["libraries"].items())
    lines += [f"- fitted per {facts['fit_per']}", f"- libraries: {libraries}"]
    return [visible("\n".join(lines))]
