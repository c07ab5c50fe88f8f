"""Every declared thing has a reader: each configuration key and each field of a descriptor does something.

For every section of core and of the four shipped plugins the test walks all fields of its attrs class, those it
inherits included, and looks for code that reads the attribute of that class, of a base or of a subclass. Code counts
when it may act on the value: anything in core or, for a plugin's own section, in core or that plugin. What a
declaration says of itself does not count (`config` modules, the descriptors): a validator is no reader, and a property
is one only if something else reads the property. `tests/attribute_reads.py` says how classes are told; an attribute of
something unknown never counts, so no `path` or `enabled` elsewhere hides a key that nothing reads.

What it cannot see: a read whose value is then thrown away, and a class that two families share but only one hands on.
"""

from __future__ import annotations

import textwrap
import typing
from collections.abc import Iterator

import attrs
import pytest

from cosmos_core.config import RunConfig
from cosmos_core.config.reference import CORE_SECTIONS, Section
from cosmos_core.plugin import Conversion, PluginManager
from cosmos_core.plugin.hookspecs import CONTRIBUTIONS
from tests.attribute_reads import Read, Sources, modules_below
from tests.command import ROOT

EXCUSED = {
    "custom": "free-form, carried along for the user's own tools",
    "job.upload_reproducible_setup": "published recipes hold it; config.compat says that it has no effect",
    "trainer.distributed_parallelism": "published recipes hold it; it has one value, so there is nothing to decide",
    "trainer.callbacks.compile_tokenizer.warmup_resolutions": "published recipes hold it; config.compat says so",
}
"""Keys without a reader, each with the reason why it is there."""

OURS = {"cosmos-core", "cosmos-vfm", "cosmos-vlm", "cosmos-data-bridge", "cosmos-data-videophy"}
PLUGINS = [module.parent for module in (ROOT / "plugins").glob("*/src/*/plugin.py")]
PACKAGES = [ROOT / "cosmos_core", *PLUGINS]


class Declarations:
    """Sources with their reads, and which of those count for a field."""

    def __init__(self, texts: dict[str, str]) -> None:
        self.sources = Sources(texts)
        self.by_name: dict[str, list[Read]] = {}
        for read in self.sources.reads():
            self.by_name.setdefault(read.name, []).append(read)

    def is_read(self, cls: str, name: str, owner: str) -> bool:
        """Whether code of core or `owner`, a top-level package ("" for any), reads the field of `cls`."""
        return any(
            self._acts(read, owner)
            for read in self.by_name.get(name, ())
            if read.module.partition(".")[0] in (owner or read.module.partition(".")[0], "cosmos_core")
            and (read.cls in self.sources.mro(cls) or cls in self.sources.mro(read.cls))
        )

    def _acts(self, read: Read, owner: str) -> bool:
        if not is_declaration(read.module):
            return True
        declared, _, method = read.inside.rpartition(".")
        return bool(method) and method != read.name and self.is_read(declared, method, owner)


def is_declaration(module: str) -> bool:
    return module.startswith("cosmos_core.config") or module.split(".")[-1] in {"config", "descriptors"}


def fields(cls: type, path: str) -> Iterator[tuple[str, str, str]]:
    """Path, class and name of every field of an attrs class and of the tables below it."""
    hints = typing.get_type_hints(cls)
    for field in attrs.fields(cls):
        yield f"{path}.{field.name}".removeprefix("."), f"{cls.__module__}:{cls.__qualname__}", field.name
        if isinstance(hints[field.name], type) and attrs.has(hints[field.name]):
            yield from fields(hints[field.name], f"{path}.{field.name}")


def keys() -> Iterator[tuple[str, str, str, str]]:
    """Every key, and the package that must read it; "" for core's, which any plugin may."""
    sections = [Section("", RunConfig, ""), *PluginManager.discover().registry.sections()]
    for section in sections:
        assert section.owner in OURS | {""}, f"{section.owner} is installed too; uninstall it, or look there as well"
        owner = "" if section in CORE_SECTIONS else section.owner.replace("-", "_")
        for path, cls, name in fields(section.cls, section.path):
            yield path, cls, name, owner


@pytest.fixture(scope="module")
def ours() -> Declarations:
    files = {module: path for package in PACKAGES for module, path in modules_below(package).items()}
    return Declarations({module: path.read_text() for module, path in files.items()})


def test_every_key_has_a_reader(ours: Declarations) -> None:
    every = set(keys())
    assert len(every) > 200
    unread = {path for path, cls, name, owner in every if not ours.is_read(cls, name, owner)}
    assert unread - EXCUSED.keys() == set(), "nothing reads these keys"
    assert EXCUSED.keys() - unread == set(), "these are read, so that they need no excuse"


@pytest.mark.parametrize("kind", [*CONTRIBUTIONS.values(), Conversion], ids=lambda kind: kind.__name__)
def test_every_field_of_a_descriptor_has_a_reader(ours: Declarations, kind: type) -> None:
    unread = [name for _, cls, name in fields(kind, "") if not ours.is_read(cls, name, "")]
    assert not unread, f"nothing reads {unread} of {kind.__name__}"


CONFIG = """
    from attrs import frozen

    @frozen
    class Base:
        shared: int
        unshared: int

    @frozen
    class Lidar(Base):
        path: str
        enabled: bool
        rate: int
        low: int
        seen_by_others: int

        @property
        def doubled(self) -> int:
            return 2 * self.rate

        @low.validator
        def _check(self, attribute, value):
            assert self.low < 10

    @frozen
    class Radar(Base):
        enabled: bool
    """
SOURCE = """
    from acme.config import Base, Lidar, Radar

    class Source:
        def __init__(self, config: Lidar) -> None:
            self.config = config

        def get(self, radar: Radar, other) -> object:
            assert radar.enabled, other.path
            return self.config.doubled

    def count(configs: dict[str, Base]) -> int:
        return sum(one.shared for one in configs.values())
    """
OTHER = """
    def see(config):
        from acme.config import Lidar

        if isinstance(config, Lidar):
            return config.seen_by_others
    """


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shared", True),
        ("unshared", False),
        ("rate", True),
        ("path", False),
        ("enabled", False),
        ("low", False),
        ("seen_by_others", False),
    ],
)
def test_a_key_that_nothing_reads_is_found_whatever_it_is_called(name: str, expected: bool) -> None:
    """A dataset's keys: read through the base, through a property, of another class, by a validator or elsewhere."""
    texts = {"acme.config": CONFIG, "acme.source": SOURCE, "other.source": OTHER}
    found = Declarations({module: textwrap.dedent(text) for module, text in texts.items()})
    assert found.is_read("acme.config:Lidar", name, "acme") is expected
