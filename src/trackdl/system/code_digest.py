"""One digest of the code that determines a task's training, to tell whether a finished run is still valid.

A task's module names the functions that it trains by in its constant `TRAINS`. The digest covers every definition
(function, class, constant) that is reached from them, by its syntax tree: moving a definition to another module, or
adding one, keeps finished runs valid; changing how something is built, fed, trained or evaluated does not. Left out are

- names of modules, docstrings, comments, annotations, fields of classes, and text for people: f-strings, strings with a
  space in them, and the arguments of raised errors;
- modules that display or store results: those that reach MLflow, matplotlib or rich;
- what has a digest of its own: the resolved experiment, and the data (modules that use file locks fetch files, whose
  checksums are verified);
- in a table of choices, such as the activations, those that the experiment does not name.
"""

import ast
import hashlib
from collections.abc import Collection, Iterator, Mapping
from functools import cache, cached_property
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]

SHOWS = {"mlflow", "matplotlib", "rich"}
BRINGS = {"filelock"}

# A definition: its module, dotted below the package, and its name.
Place = tuple[str, str]


def words_of(parameters: Mapping[str, object]) -> frozenset[str]:
    """Return the words in an experiment's parameters (as `spec.flatten` returns them) that may name choices."""

    def walk(value: object) -> Iterator[str]:
        if isinstance(value, Mapping):
            yield from value
        for item in value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ():
            yield from walk(item)
        if not isinstance(value, Mapping | list):
            yield str(value)

    # A key's own name may be a choice too: a network is a family or `layers`, data have one of several sources.
    names = {key.rpartition(".")[2] for key, value in parameters.items() if isinstance(value, list) or "data." in key}
    return frozenset(names.union(*map(walk, parameters.values())))


@cache
def code_digest(task: str, words: frozenset[str] = frozenset(), package: Path = PACKAGE) -> str | None:
    """Return the SHA-256, hex, of the code that decides a task's results.

    Args:
        task: The task's name.
        words: Of the experiment, as `words_of` returns them.
        package: The folder of trackdl's sources.

    Returns:
        The digest; None where the task trains nothing.
    """
    code, module = _code(package), f"tasks.{task}"
    names = code.texts(module, "TRAINS")
    found: dict[Place, str] = {}
    left = [place for name in names if (place := code.resolve(module, name))]
    while left:
        place = left.pop()
        if place not in found and (place[0] == module or not code.modules[place[0]].aside):
            reader = _Reader(code, place[0], words)
            found[place] = reader.read(code.modules[place[0]].definitions[place[1]])
            left += reader.reached
    return hashlib.sha256("\n".join(sorted(found.values())).encode()).hexdigest() if names else None


class _Module:
    """A module's definitions, and what it imports."""

    def __init__(self, code: "_Code", file: Path) -> None:
        self.code = code
        self.definitions: dict[str, ast.stmt] = {}
        self.imports: dict[str, tuple[str, str]] = {}  # by local name: a module of the package, and a name in it
        self.foreign: set[str] = set()
        self.inner: set[str] = set()
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            self._take(node)

    def _take(self, node: ast.stmt) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.definitions[node.name] = node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            self.definitions |= {target.id: node for target in targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.ImportFrom) and node.module:
            self._import(node.module, node.names)
        elif isinstance(node, ast.Import):
            self.foreign |= {alias.name.partition(".")[0] for alias in node.names}

    def _import(self, module: str, names: Collection[ast.alias]) -> None:
        top, _, rest = module.partition(".")
        if top != "trackdl":
            self.foreign.add(top)
            return
        self.inner.add(rest)
        for alias in names:
            self.imports[alias.asname or alias.name] = (rest, alias.name)
            self.inner.add(f"{rest}.{alias.name}".strip("."))

    @cached_property
    def aside(self) -> bool:
        """Whether the module fetches files, or it, or a module that it imports, displays or stores results."""
        return bool(self.foreign & BRINGS) or bool(self._below & SHOWS)

    @cached_property
    def _below(self) -> set[str]:
        seen: set[str] = set()
        left, foreign = list(self.inner), set(self.foreign)
        while left:
            name = left.pop()
            if name not in seen and name in self.code.modules:
                seen.add(name)
                foreign |= self.code.modules[name].foreign
                left += self.code.modules[name].inner
        return foreign


class _Code:
    """The package's modules, by their dotted names below it."""

    def __init__(self, package: Path) -> None:
        files = {file.relative_to(package).with_suffix("").parts: file for file in sorted(package.rglob("*.py"))}
        self.modules = {
            ".".join(parts[:-1] if parts[-1] == "__init__" else parts): _Module(self, file)
            for parts, file in files.items()
        }

    def resolve(self, module: str, name: str) -> Place | None:
        """Return where what a module calls `name` is defined; None where it is not in the package, or is a module."""
        seen = set()
        while (module, name) not in seen and module in self.modules:
            seen.add((module, name))
            if name in self.modules[module].definitions:
                return module, name
            if name not in self.modules[module].imports:
                return None
            module, name = self.modules[module].imports[name]
        return None

    def texts(self, module: str, name: str) -> list[str]:
        """Return the strings in a module's constant; none where it has no such constant."""
        node = self.modules[module].definitions.get(name) if module in self.modules else None
        return [text for item in ast.walk(node) if (text := _text(item)) is not None] if node else []

    def is_model(self, module: str, name: str) -> bool:
        """Return whether a class is a section of experiment files, whose values have a digest of their own."""
        place = self.resolve(module, name)
        if place is None:
            return name == "BaseModel"
        node = self.modules[place[0]].definitions[place[1]]
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)] if isinstance(node, ast.ClassDef) else []
        return any(self.is_model(place[0], base) for base in bases)

    def module_of(self, module: str, name: str) -> str | None:
        """Return the module that another calls `name`, or None."""
        if name not in self.modules[module].imports:
            return None
        found = ".".join(self.modules[module].imports[name]).strip(".")
        return found if found in self.modules else None


_code = cache(_Code)


class _Reader(ast.NodeTransformer):
    """Reads one definition: the part of it that affects results, as text, and the definitions that it reaches."""

    def __init__(self, code: _Code, module: str, words: frozenset[str]) -> None:
        self.code, self.module, self.words = code, module, words
        self.reached: list[Place] = []
        self.local: frozenset[str] = frozenset()  # names that have another meaning within a function

    def read(self, node: ast.stmt) -> str:
        """Return a definition's text."""
        copy = ast.parse(ast.unparse(node)).body[0]  # the tree is shared by all tasks
        if isinstance(copy, ast.Assign | ast.AnnAssign) and copy.value is not None:
            copy.value = self._chosen(copy.value)
        return _dump(self.visit(copy))

    def _chosen(self, value: ast.expr) -> ast.expr:
        """Return a constant; of a table of choices, only those that the experiment names."""
        if isinstance(value, ast.Dict):
            pairs = [
                (key, item) for key, item in zip(value.keys, value.values, strict=True) if _text(key) in self.words
            ]
            if pairs:
                return ast.Dict([key for key, _ in pairs], [item for _, item in pairs])
        if isinstance(value, ast.Set) and all(_text(item) is not None for item in value.elts):
            return ast.Set([item for item in value.elts if _text(item) in self.words])
        return value

    def _follow(self, module: str, name: str, *, classes: bool = False) -> str:
        """Record the definition that a name refers to, and return its name there."""
        place = None if name in self.local and module == self.module else self.code.resolve(module, name)
        if place is None:
            return name
        if not classes or isinstance(self.code.modules[place[0]].definitions[place[1]], ast.ClassDef):
            self.reached.append(place)
        return place[1]

    def _annotated(self, annotation: ast.expr | None) -> None:
        """Follow the classes that an annotation names: their methods may be called."""
        for node in ast.walk(annotation) if annotation else ():
            if isinstance(node, ast.Name):
                self._follow(self.module, node.id, classes=True)

    def _body(self, body: list[ast.stmt]) -> list[ast.stmt]:
        docstring = body and isinstance(body[0], ast.Expr) and _text(body[0].value) is not None
        visited = [made for node in body[1 if docstring else 0 :] if (made := self.visit(node)) is not None]
        return visited or [ast.Pass()]

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self._annotated(node.returns)
        node.returns = None
        node.decorator_list = [self.visit(item) for item in node.decorator_list]
        node.args = self.visit(node.args)
        outer = self.local
        names = {item.id for item in ast.walk(node) if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)}
        self.local |= names | {item.arg for item in ast.walk(node) if isinstance(item, ast.arg)}
        node.body = self._body(node.body)
        self.local = outer
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        fields = [item for item in node.body if isinstance(item, ast.AnnAssign)]
        for item in fields if not self.code.is_model(self.module, node.name) else ():
            self._annotated(item.annotation)
        node.bases = [self.visit(item) for item in node.bases]
        node.decorator_list = [self.visit(item) for item in node.decorator_list]
        node.body = self._body([item for item in node.body if item not in fields])
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | None:
        self._annotated(node.annotation)
        return ast.Assign([node.target], self.visit(node.value), lineno=0) if node.value else None

    def visit_arg(self, node: ast.arg) -> ast.arg:
        self._annotated(node.annotation)
        node.annotation = None
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        return ast.Raise(self.visit(raised) if raised else None, None)

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("") if " " in (_text(node) or "") else node

    def visit_JoinedStr(self, node: ast.JoinedStr) -> ast.Constant:  # noqa: ARG002
        return ast.Constant("")

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(self._follow(self.module, node.id), node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if isinstance(node.value, ast.Name) and (module := self.code.module_of(self.module, node.value.id)):
            return ast.Name(self._follow(module, node.attr), node.ctx)
        node.value = self.visit(node.value)
        return node


def _dump(value: object) -> str:
    """Return a tree as text, as `ast.dump` of Python 3.11 does: later ones add or omit what does not matter here."""
    if isinstance(value, list):
        return f"[{', '.join(map(_dump, value))}]"
    if not isinstance(value, ast.AST):
        return repr(value)
    fields = [(name, getattr(value, name, None)) for name in value._fields if name != "type_params"]
    optional = {name for name in value._fields if getattr(type(value), name, ...) is None}
    parts = [f"{name}={_dump(field)}" for name, field in fields if field is not None or name not in optional]
    return f"{type(value).__name__}({', '.join(parts)})"


def _text(node: ast.AST | None) -> str | None:
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None
