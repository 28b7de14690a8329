"""A page read as a browser reads it, for tests that look for elements and what they say."""

from __future__ import annotations

import json
from html.parser import HTMLParser

VOID = {"meta", "input", "br", "hr", "img", "link"}


class Element:
    """A tag with its attributes, its children, and the text inside it."""

    def __init__(self, tag, attributes):
        self.tag, self.attributes = tag, attributes
        self.children, self.pieces = [], []

    @property
    def text(self):
        return " ".join("".join(self.pieces).split())

    def all(self, tag=None, **attributes):
        """All elements below this one, itself included, with this tag and these attributes."""
        named = {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()}
        matches = tag in (None, self.tag) and named.items() <= self.attributes.items()
        below = [found for child in self.children for found in child.all(tag, **attributes)]
        return [self, *below] if matches else below


class Page(HTMLParser):
    """A parsed page; tags that do not close in order are an error."""

    def __init__(self, text):
        super().__init__()
        self.root = Element("root", {})
        self.open = [self.root]
        self.feed(text)
        self.close()
        assert self.open == [self.root], f"left open: {[e.tag for e in self.open]}"

    def handle_starttag(self, tag, attrs):
        assert len(attrs) == len(dict(attrs)), f"an attribute comes twice: {attrs}"
        element = Element(tag, dict(attrs))
        self.open[-1].children.append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag):
        assert self.open.pop().tag == tag

    def handle_data(self, data):
        for element in self.open:
            element.pieces.append(data)

    def all(self, tag=None, **attributes):
        return self.root.all(tag, **attributes)

    def by_id(self, name):
        (element,) = self.all(id=name)
        return element


def payload_of(page):
    return json.loads("".join(page.by_id("payload").pieces))
