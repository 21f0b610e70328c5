"""Write docs/keys.md from the schema of experiment files, and a page for each module of the API into build/reference.

`make docs` calls it: `python -m tools.reference`. A test compares docs/keys.md with the schema.
"""

import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from trackdl import spec
from trackdl.spec import network
from trackdl.spec.base import Strict

ROOT = Path(__file__).resolve().parents[1]
KEYS, PAGES = ROOT / "docs" / "keys.md", ROOT / "build" / "reference"
# The modules that people import, each a page.
API = ["estimator", "spec", "networks.build", "serving", "analysis.stats", "analysis.contrasts", "ledger.rule"]

HEAD = """\
# Keys of experiment files

<!-- Made from the schema in src/trackdl/spec by `make docs`. -->

trackdl checks every experiment file by this schema before it loads anything. A file has the key `task`, which names its
kind, and the keys of that kind; a link leads to the keys of a section. The option `--set KEY=VALUE` takes dotted keys,
e.g. `--set training.optimizer.lr=0.01`. [Your own report](reports.md) has an example of each kind.
"""

LAYERS = """\
## Layers

A network's `layers`, of which the last is `{dense: classes}`. Wherever a number is expected you may write a name of
`with`, `K*NAME`, or `NAME/K`, which is rounded down, except where a share is expected. Sizes, strides and paddings are
in pixels.
"""
LAYER_MEANINGS = {
    "flatten": "Puts an image's numbers in a row, which `dense` takes.",
    "average": "Global average pooling: the mean of each channel, a row of numbers which `dense` takes.",
    "batch_norm": "Normalises each channel, or each number of a row, over the batch (Ioffe and Szegedy, 2015).",
    "conv: K": "A convolution with K filters of `size`×`size`. `padding` is `none`, `same` or up to 64 on each side. "
    "With `fixed: gabor` the filters are a bank of Gabor filters that is not trained.",
    "pool: K": "The maximum of each window of K×K; by default windows do not overlap.",
    "average: K": "The mean of each window of K×K; by default windows do not overlap.",
    "dropout: P": "Drops this share of numbers while training.",
    "dropout_maps: P": "Drops this share of whole channels while training.",
    "dense: K": "A linear layer with K outputs; `dense: classes` has one for each class.",
    "squeeze_excite: K": "Squeeze-and-excitation (Hu et al., 2018): multiplies each channel by a weight between 0 and "
    "1, computed from all channels' means by two linear layers with a Kth of the channels in between.",
    "residual: [LAYERS]": "The sum of its input and of what these layers make of it (He et al., 2016). If channels or "
    "side differ, the input passes through a 1×1 convolution with the stride that fits, without bias.",
    "repeat: K": "The list `layers`, K times, each with its own weights.",
}


def keys_page() -> str:
    """Return the page of all keys: each kind of file, and then each section, once; layers last."""
    kinds = {kind.__name__: f"`task: {task}`" for task, kind in spec.KINDS.items()}
    schemas = models_json_schema([(kind, "validation") for kind in spec.KINDS.values()])[1]["$defs"]
    models = {model.__name__: model for model in _below(Strict)}
    sections = {name: re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize() for name in schemas if name not in kinds}
    titles = kinds | dict(sorted(sections.items()))
    parts = [HEAD, *(_section(title, models[name], schemas[name], titles) for name, title in titles.items())]
    return "\n".join([*parts, _layers()])


def _layers() -> str:
    """Return the section of the layers, each with its keys."""
    lines = ["| layer | further keys | meaning |", "|---|---|---|"]
    lines += [f"| `{word}` |  | {LAYER_MEANINGS[word]} |" for word in network._WORDS if word not in network.ACTIVATIONS]
    lines.append(f"| {', '.join(f'`{word}`' for word in network.ACTIVATIONS)} |  | This function of each number. |")
    for kind, model in network._MAPPINGS.items():
        name = f"{kind}: {'P' if kind.startswith('dropout') else '[LAYERS]' if kind == 'residual' else 'K'}"
        keys = [(key, field) for key, field in model.model_fields.items() if key != kind]
        shown = [f"`{key}`" + _by_default(field.get_default()) * (not field.is_required()) for key, field in keys]
        lines.append(f"| `{name}` | {', '.join(shown)} | {LAYER_MEANINGS[name]} |")
    return LAYERS + "\n" + "\n".join(lines) + "\n"


def _by_default(value: Any) -> str:
    return "" if value is None else f" ({str(value).lower()})"


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in model.__subclasses__():
        yield child
        yield from _below(child)


def _section(title: str, model: type[BaseModel], schema: dict[str, Any], titles: dict[str, str]) -> str:
    """Return a section's text, and the table of its keys."""
    prose = inspect.cleandoc(model.__doc__ or "").partition("\nAttributes:\n")[0].strip()
    meanings: dict[str, str] = {}
    for one in model.__mro__:
        _, _, attributes = inspect.cleandoc(one.__doc__ or "").partition("\nAttributes:\n")
        for name, meaning in re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", attributes, re.MULTILINE):
            if name in model.model_fields:
                meanings.setdefault(model.model_fields[name].alias or name, " ".join(meaning.split()))
    rows = [
        (f"`{key}`", _words(value, titles), _default(key, value, schema), meanings.get(key, ""))
        for key, value in schema["properties"].items()
    ]
    head = ("key", "may be", "default", "meaning")
    shown = 4 if any(row[3] for row in rows) else 3
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row[:shown]) + " |" for row in (head, *rows)]
    lines.insert(1, "|---" * shown + "|")
    return "\n\n".join([f"## {title}", prose, "\n".join(lines)]) + "\n"


def _link(title: str) -> str:
    """Return a link to a section, as GitHub and MkDocs both name it."""
    return f"[{title}](#{re.sub('[^a-z ]', '', title.lower()).replace(' ', '-')})"


def _words(value: dict[str, Any], titles: dict[str, str]) -> str:
    """Return in words what a JSON schema allows."""
    if "$ref" in value:
        return _link(titles[value["$ref"].rpartition("/")[2]])
    if choices := value.get("enum", [value["const"]] if "const" in value else []):
        return ", ".join(f"`{choice}`" for choice in choices)
    if several := value.get("anyOf", value.get("oneOf")):
        words = dict.fromkeys(_words(one, titles) for one in several if one.get("type") != "null")
        several = [one for one in words if one != "whole number" or "number" not in words]
        return (", or " if any("either" in one for one in several) else " or ").join(several)
    kind = value.get("type")
    if kind == "array":
        return f"a list of {_many(_words(value['items'], titles))}"
    if kind == "object":
        inner = value.get("additionalProperties")
        values = _many(_words(inner, titles) if isinstance(inner, dict) else "any value")
        return f"a mapping of names to {'either ' * (' or ' in values)}{values}"
    names = {"integer": "whole number", "number": "number", "string": "string", "boolean": "`true`, `false`"}
    limits = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}
    bounds = [f"{word} {_number(value[key])}" for key, word in limits.items() if abs(value.get(key, 2**63)) < 2**63]
    return " ".join([names.get(kind, "any value"), *bounds])


def _many(words: str) -> str:
    """Return the plural of what `_words` says of one value."""
    plural = " or ".join(
        re.sub(r"\b(number|mapping|list|value|string)\b", r"\1s", one, count=1) for one in words.split(" or ")
    )
    return re.sub(r"\b(a|any) ", "", plural)


def _number(value: float) -> str:
    return f"{value:,}" if abs(value) >= 10_000 else str(value)  # 1900 may be a year


def _default(key: str, value: dict[str, Any], schema: dict[str, Any]) -> str:
    if key in schema.get("required", []):
        return "must be given"
    default = value.get("default")
    if default in (None, "", [], {}) or "$ref" in value:
        return ""
    return f"`{yaml.safe_dump(default, default_flow_style=True).removesuffix('...' + chr(10)).strip()}`"


if __name__ == "__main__":
    KEYS.write_text(keys_page(), encoding="utf-8")
    PAGES.mkdir(parents=True, exist_ok=True)
    for module in API:
        (PAGES / f"{module}.md").write_text(f"# trackdl.{module}\n\n::: trackdl.{module}\n", encoding="utf-8")
