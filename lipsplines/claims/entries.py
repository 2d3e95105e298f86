"""The list of claims: ``claims.yml``, checked against ``claims.schema.json``."""

from __future__ import annotations

import functools
import json
import math
from pathlib import Path
from typing import Any, cast

from lipsplines.claims.claim import Claim
from lipsplines.claims.rules import RULES
from lipsplines.files import in_short

__all__ = ["load_claims", "parse_claims"]

# Entries of a claim that only some rules read.
OF_RULES = {
    "checks", "rivals", "starts", "choice", "tolerance", "margin", "runs", "converged",
}  # fmt: skip


@functools.cache
def load_claims() -> tuple[Claim, ...]:
    """All claims, checked against the schema, in their order.

    Raises
    ------
    ValueError
        If an entry does not follow the schema, or two have one name; the message says which.
    """
    folder = Path(__file__).parent
    return parse_claims((folder / "claims.yml").read_text(encoding="utf-8"))


def parse_claims(text: str) -> tuple[Claim, ...]:
    """Claims from the text of a file such as ``claims.yml``; errors as in `load_claims`.

    Parameters
    ----------
    text
        YAML that follows ``claims.schema.json``.
    """
    import jsonschema
    import yaml

    try:
        entries = yaml.load(text, Loader=_loader())
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"The claims are no YAML that can be read: {in_short(error)}") from None
    except RecursionError:
        raise ValueError("The claims are no YAML that can be read: they are too deep.") from None
    schema = json.loads(Path(__file__).with_name("claims.schema.json").read_text("utf-8"))
    problem = jsonschema.exceptions.best_match(
        jsonschema.Draft202012Validator(schema).iter_errors(entries)
    )
    if problem is not None:
        first, *rest = problem.absolute_path or [None]
        entry = entries[first] if isinstance(first, int) else None
        name = entry.get("id", f"number {first + 1}") if isinstance(entry, dict) else first
        place = "The list of claims" if entry is None else f"The claim {in_short(name, 60)}"
        where = "".join(f" in {in_short(key, 60)}" for key in rest[:3])
        raise ValueError(f"{place} does not follow the schema{where}: {in_short(problem.message)}.")
    names = [entry["id"] for entry in entries]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        called = in_short(", ".join(twice))
        raise ValueError(f"Two claims are called {called}; give each its own name.")
    for entry in entries:
        rule = RULES[entry["rule"]]
        foreign = set(entry["experiments"]) - set(rule.experiments)
        unread = OF_RULES & entry.keys() - set(rule.fields)
        if foreign or unread:
            raise ValueError(
                f"The rule of the claim {entry['id']} does not know "
                f"{', '.join(sorted(foreign | unread))}."
            )
    return tuple(
        Claim(**cast(Any, {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}))
        for entry in entries
    )


def _loader() -> type:
    """Of YAML without objects, aliases, infinite numbers and keys that stand twice in an entry."""
    import yaml

    class Loader(yaml.SafeLoader):
        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise yaml.YAMLError("an alias stands for another part; write that part out")
            return super().compose_node(parent, index)

        def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
            value = super().construct_yaml_float(node)
            if not math.isfinite(value):
                raise yaml.YAMLError(f"{node.value} is no number that can be compared")
            return value

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
            keys = [key.value for key, _ in node.value]
            twice = sorted({key for key in keys if keys.count(key) > 1})
            if twice:
                raise yaml.YAMLError(f"{', '.join(twice)} stands twice in one claim")
            return super().construct_mapping(node, deep)

    Loader.add_constructor("tag:yaml.org,2002:float", Loader.construct_yaml_float)
    return Loader
