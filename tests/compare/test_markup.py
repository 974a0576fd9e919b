"""Promises of the markup: what is text stays text, and numbers are short."""

from __future__ import annotations

from ps.compare.markup import Markup, join, table, tag


def test_text_is_escaped_and_markup_is_not_escaped_again() -> None:
    assert tag("p", "<b> & ", Markup("<i></i>"), None, title='a"b').text == (
        '<p title="a&quot;b">&lt;b&gt; &amp; <i></i></p>'
    )
    assert join("<", tag("b", "x")).text == "&lt;<b>x</b>"


def test_attributes_are_named_as_in_html_and_left_out_without_a_value() -> None:
    assert tag("g", class_="a", stroke_width=1.50, x=3.0, y=0.3333, dash=None).text == (
        '<g class="a" stroke-width="1.5" x="3" y="0.33"></g>'
    )


def test_a_table_names_its_columns_in_every_cell_for_narrow_screens() -> None:
    text = table(("run", "time"), [["a", "1 s"]], "Times", stacked=True).text
    assert '<th scope="row">a</th><td data-label="time" class="n">1 s</td>' in text
    assert '<table class="stacked"><caption>Times</caption>' in text
