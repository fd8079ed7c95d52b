"""The pages of a store, read as a browser reads them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser

from exporter.model import Observation, Target
from exporter.publish.pages import Pages
from exporter.publish.wanted import Wanted
from exporter.store import Store
from tests.unit import samples

NOW = samples.STARTED_AT + 90
#: Everything, and no reload.
ALL = Wanted()
#: HTML elements that have no end tag (HTML, 13.1.2).
VOID = {"meta", "link", "br", "hr", "img", "input", "wbr"}


@dataclass
class Document(HTMLParser):
    """A page as a browser reads it; fails where an end tag is missing or out of place."""

    text: str
    open: list[str] = field(default_factory=list)
    #: (element, attributes) in order.
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    #: Element -> the text inside each one of its kind.
    texts: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        assert len(dict(attrs)) == len(attrs)
        self.elements.append((tag, dict(attrs)))
        self.texts.setdefault(tag, []).append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close the element that is open."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Add the text to every element around it."""
        for tag in self.open:
            self.texts[tag][-1] += data

    @property
    def links(self) -> list[str]:
        """Where the page leads to."""
        return [str(attributes["href"]) for tag, attributes in self.elements if tag == "a"]


def index(store: Store, now: float = NOW, wanted: Wanted = ALL) -> Document:
    """The index page."""
    return Document(rendered(Pages(store, "1.2.3"), now, wanted=wanted))


def rendered(made: Pages, now: float = NOW, number: int = 1, wanted: Wanted = ALL) -> str:
    """A page of the index, all pieces together."""
    return "".join(made.index(wanted, number, now))


def page(store: Store, name: str, now: float = NOW, wanted: Wanted = ALL) -> Document:
    """A target's own page."""
    text = Pages(store, "1.2.3").target(name, wanted, now)
    assert text is not None
    return Document(text)


def sample_store(*others: Observation, waiting: Iterable[Target] = ()) -> Store:
    """A store with each kind."""
    return samples.store(*samples.SAMPLES.values(), *others, waiting=waiting)


def history(*kinds: Observation) -> Store:
    """A store in which the same target has been seen so, a minute apart."""
    of = samples.target("web")
    return samples.store(
        *(
            replace(kind, target=of, started_at=samples.STARTED_AT + 60 * n)
            for n, kind in enumerate(kinds)
        )
    )


def parts(document: Document) -> dict[str, list[str]]:
    """The sections of a target's page: heading -> the lines below it."""
    sections = (text.split("\n") for text in document.texts["section"])
    lines = ([line for line in section if line][1:] for section in sections)
    return dict(zip(document.texts["h2"], lines, strict=True))
