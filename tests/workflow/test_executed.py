"""What papermill leaves in an executed copy, read back: notebooks made by hand, in its form."""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime, timedelta
from html.parser import HTMLParser

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output, new_raw_cell

from t4e_utils.workflow import PipelineError, executed

BEGIN = datetime.fromisoformat("2026-01-01T10:00:00+00:00")
PNG = base64.b64encode(b"\x89PNG pixels").decode()
EVIL = "<script>alert(1)</script>"


def done(seconds: float = 1.0, *, failed: bool = False) -> dict:
    """What papermill notes for a cell that ran."""
    return {
        "papermill": {
            "duration": seconds,
            "start_time": "t",
            "exception": failed,
            "status": "failed" if failed else "completed",
        }
    }


NOT_RUN = {
    "papermill": {"duration": None, "start_time": None, "exception": None, "status": "completed"}
}
KILLED = {
    "papermill": {"duration": None, "start_time": "t", "exception": None, "status": "running"}
}


def write(path, cells, **papermill):
    path.parent.mkdir(parents=True, exist_ok=True)
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(
        new_notebook(cells=cells, metadata={"kernelspec": kernel, "papermill": papermill}), path
    )
    return path


def picture(kind: str, content: str):
    return new_output("display_data", data={kind: content, "text/plain": "<Figure>"})


def test_side_by_side_counts_once_and_pauses_do_not_count():
    def minutes(first, last):
        return BEGIN + timedelta(minutes=first), BEGIN + timedelta(minutes=last)

    spans = [minutes(5, 7), minutes(0, 2), minutes(1, 3), minutes(1, 2), minutes(20, 21)]
    ticks = {
        second
        for begin, end in spans
        for second in range(
            int((begin - BEGIN).total_seconds()), int((end - BEGIN).total_seconds())
        )
    }
    assert executed.seconds_covered(spans) == len(ticks) == 6 * 60
    assert executed.seconds_covered([]) == 0


def test_the_span_of_a_notebook_is_read_where_it_is_recorded(tmp_path):
    path = write(
        tmp_path / "a.ipynb",
        [],
        start_time=BEGIN.isoformat(),
        end_time=(BEGIN + timedelta(seconds=3)).isoformat(),
    )
    assert executed.span(executed.read(path)) == (BEGIN, BEGIN + timedelta(seconds=3))
    assert executed.span(executed.read(write(tmp_path / "b.ipynb", []))) is None


def test_parameters_are_the_defaults_with_what_was_given(tmp_path):
    source = 'run_dir: str = "runs/demo"  # where\nfolds: list = [0]  # which\nrate: float = 1e-3'
    path = write(
        tmp_path / "a.ipynb",
        [new_code_cell(source, metadata={"tags": ["parameters"]})],
        parameters={"folds": [0, 1]},
    )
    assert executed.parameters_used(path) == [
        ("run_dir", "runs/demo", False, "where"),
        ("folds", [0, 1], True, "which"),
        ("rate", 0.001, False, ""),
    ]
    assert executed.literal("a + 1") == "a + 1"


def test_a_failed_cell_is_named_with_its_heading_and_the_reason(tmp_path):
    error = new_output(
        "error",
        ename="ParameterError",
        evalue="\x1b[31mseed = 'a'\x1b[0m is str: correct it.",
        traceback=[],
    )
    cells = [
        new_markdown_cell(
            '<span>An Exception was encountered at "In [2]".</span>',
            metadata={"tags": ["papermill-error-cell-tag"]},
        ),
        new_markdown_cell("# 03 Train\n\nText", metadata=done()),
        new_code_cell("1", execution_count=1, metadata=done()),
        new_markdown_cell("## Setup", metadata=done()),
        new_code_cell("2", execution_count=2, outputs=[error], metadata=done(failed=True)),
        new_markdown_cell("## Work", metadata=NOT_RUN),
    ]
    assert executed.failure(write(tmp_path / "03_train.ipynb", cells)) == (
        "03_train stopped in cell In [2] under \"Setup\": ParameterError: seed = 'a' is str: "
        "correct it."
    )


def test_a_killed_kernel_is_told_from_a_notebook_that_ran_to_its_end(tmp_path):
    cells = [
        new_code_cell("1", execution_count=1, metadata=done()),
        new_markdown_cell("## Work", metadata=done()),
    ]
    assert executed.failure(write(tmp_path / "a.ipynb", cells)) == ""
    for last in (KILLED, done()):
        killed = [
            *cells,
            new_code_cell("2", execution_count=2, metadata=last),
            new_code_cell("3", metadata=NOT_RUN),
        ]
        sentence = executed.failure(write(tmp_path / "b.ipynb", killed))
        assert sentence.startswith('b stopped in cell In [2] under "Work": no message is there')


def test_tagged_pictures_come_in_order_with_the_words_above_them():
    tagged = {"tags": ["report"]}
    notebook = new_notebook(
        cells=[
            new_markdown_cell("# 01 Look"),
            new_markdown_cell(f"## Inputs\n\n**Four** series. {EVIL}"),
            new_code_cell(
                "a",
                metadata=tagged,
                outputs=[
                    picture("image/png", PNG),
                    new_output("stream", text="x"),
                    picture("image/svg+xml", "<svg/>"),
                ],
            ),
            new_code_cell("b", outputs=[picture("image/png", PNG)]),
            new_markdown_cell("Next."),
            new_code_cell(
                "c",
                metadata=tagged,
                outputs=[new_output("execute_result", data={"text/html": EVIL})],
            ),
            new_code_cell(
                "d", metadata=tagged, outputs=[picture("image/jpeg", PNG[:4] + "\n" + PNG[4:])]
            ),
        ]
    )
    assert executed.title_of(notebook) == "01 Look"
    first, second = executed.tagged_pictures(notebook)
    assert (
        first.caption.strip()
        == "<p><strong>Four</strong> series. &lt;script&gt;alert(1)&lt;/script&gt;</p>"
    )
    assert first.images == [
        f"data:image/png;base64,{PNG}",
        f"data:image/svg+xml;base64,{base64.b64encode(b'<svg/>').decode()}",
    ]
    assert (second.caption.strip(), second.images) == (
        "<p>Next.</p>",
        [f"data:image/jpeg;base64,{PNG}"],
    )


def test_the_page_of_a_notebook_holds_no_script_and_shows_what_outputs_say(tmp_path):
    outputs = [
        new_output(
            "execute_result",
            data={
                "text/html": f"<table><tr><td>42</td></tr></table>{EVIL}<img src=x "
                "onerror=alert(1)>"
            },
        ),
        new_output("stream", text=f"printed {EVIL}"),
        new_output("error", ename="E", evalue=EVIL, traceback=[EVIL]),
    ]
    words = f"Words {EVIL} [next](02_seg_data.ipynb) [index](README.md)"
    path = write(
        tmp_path / "a.ipynb",
        [new_markdown_cell(words), new_code_cell("x", outputs=outputs, metadata={"tags": []})],
    )
    page = executed.write_html(path, tmp_path / "out" / "a.html", title="01 <b>").read_text()
    assert "<script" not in page.lower()
    assert "<img src=x" not in page
    assert "<td>42</td>" in page
    assert '<a href="02_seg_data.html">next</a> <a href="../index.html">index</a>' in page
    # what was printed and what an error said; of the words and of the table nothing is left of it
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 2
    assert "<b>" not in page


def test_headings_tables_and_embedded_pictures_survive_the_cleaning():
    kept = (
        '<h2 id="a">T</h2><p>x</p><table '
        'border="1"><thead><tr><th>n</th></tr></thead><tbody><tr><td '
        'colspan="2">1</td></tr></tbody></table>'
    )
    picture = '<img src="data:image/png;base64,AA==" alt="p"><a href="02.ipynb">next</a>'
    assert (
        executed.clean_html(f"<style scoped>\n.dataframe {{}}\n</style>{kept}{picture}")
        == kept + picture
    )
    assert executed.clean_html(b"<p>bytes</p>") == "<p>bytes</p>"
    assert executed.clean_html("1 < 2 & 3 <x>4</x>") == "1 &lt; 2 &amp; 3 4"


@pytest.mark.parametrize(
    "evil",
    [
        '<img src="x" onerror="alert(1)">',
        '<img src="http://tracker/x.png">',
        '<img src="data:text/html;base64,AA==">',
        '<p onclick="alert(1)">x</p>',
        '<a href="javascript:alert(1)">x</a>',
        '<a href="data:text/html,x">x</a>',
        '<p style="background: url(http://x)">x</p>',
        '<iframe src="http://x"></iframe>',
        '<svg onload="alert(1)"></svg>',
        EVIL,
        # other spellings of the same addresses
        '<a href="DATA:text/html,x">x</a>',
        '<a href=" data:text/html,x">x</a>',
        '<a href="da&#9;ta:text/html,x">x</a>',
        '<a href="jAva&#10;script:alert(1)">x</a>',
        '<a href="&#1;javascript:alert(1)">x</a>',
        '<a href="vbscript:x">x</a>',
        '<img src="//tracker/x.png">',
        '<img src="x.png">',
        '<img src=" http://tracker/x.png">',
        '<img srcset="http://tracker/x.png 2x">',
        '<table background="http://tracker/x.png"><tr><td>1</td></tr></table>',
        # what a parser of HTML reads otherwise than it is written
        "<script >alert(1)</script\n>",
        "<scr<script>ipt>alert(1)</script>",
        "<svg><style><img src=x onerror=alert(1)></style></svg>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
        '<noscript><p title="</noscript><img src=x onerror=alert(1)>">',
        "<style>@import url(http://x);</style>",
        "<!--><img src=x onerror=alert(1)>-->",
        '<p title="><script>alert(1)</script>">x</p>',
        "<img src=x onerror=alert(1)//",
        # what would change the page or ask for words
        '<base href="http://x/">',
        '<meta http-equiv="refresh" content="0;url=http://x">',
        '<link rel="stylesheet" href="http://x">',
        '<form action="http://x"><input name="a"><button formaction="http://x">x</button></form>',
        '<object data="http://x"></object><embed src="http://x">',
        '<video src="http://x" onerror="alert(1)"></video><audio src="http://x"></audio>',
    ],
)
def test_what_could_run_or_call_home_does_not_survive_the_cleaning(evil):
    clean = executed.clean_html(evil)
    found = re.findall(r"<[^>]*>", re.sub(r'title="[^"]*"', "", clean))
    assert not re.search(
        r"script|onerror|onclick|onload|http|style|data:|svg|iframe|src|href=\"[^\"]|background"
        r"|action|base|meta|link|form|object|embed|video|audio",
        "".join(found).lower(),
    )


def test_a_title_that_looks_like_a_tag_stays_an_attribute():
    found = []

    class Tags(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, attributes))

    Tags().feed(executed.clean_html('<p title="a"><b title="&quot;><script>x</script>">y</b></p>'))
    assert found == [("p", [("title", "a")]), ("b", [("title", '"><script>x</script>')])]


def test_a_copy_that_is_missing_or_damaged_is_one_sentence(tmp_path):
    with pytest.raises(PipelineError, match="is not there: the notebook has not started"):
        executed.read(tmp_path / "a.ipynb")
    for content in ("{", "{}", '{"nbformat": 4}'):
        (tmp_path / "a.ipynb").write_text(content)
        with pytest.raises(PipelineError, match=r"is no complete notebook .*: run it again"):
            executed.read(tmp_path / "a.ipynb")


def test_a_widget_becomes_its_still_picture_and_the_notebook_stays_as_it_was():
    output = new_output(
        "display_data",
        data={executed.WIDGET_TYPE: {"model_id": "1"}, "image/png": PNG, "text/plain": "Viewer"},
    )
    notebook = new_notebook(
        cells=[new_markdown_cell("Words"), new_code_cell("view", outputs=[output])],
        metadata={"widgets": {"state": {}}},
    )
    copy = executed.without_widgets(notebook)
    assert set(copy.cells[1].outputs[0].data) == {"image/png", "text/plain"}
    assert "widgets" not in copy.metadata
    assert executed.WIDGET_TYPE in notebook.cells[1].outputs[0].data


def raw(path, **changes):
    """A notebook with other values at its top, as JSON."""
    content = json.loads(nbformat.writes(new_notebook(cells=[new_code_cell("x")])))
    path.write_text(json.dumps(content | changes))
    return path


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b"\xff\xfe\x00{",
        b"\x1f\x8b\x08\x00",
        b"[" * 100_000,
        b'{"nbformat": 5, "nbformat_minor": 0, "metadata": {}, "cells": []}',
        b'{"nbformat": "4", "nbformat_minor": 0, "metadata": {}, "cells": []}',
        b'{"nbformat": 4, "metadata": {}, "cells": []}',
        b'{"nbformat": 2, "worksheets": []}',
        b'{"nbformat": 1, "cells": [{"cell_type": "markdown"}]}',
        b'{"nbformat": 4, "nbformat_minor": 0.5, "metadata": {}, "cells": []}',
    ],
    ids=range(12),
)
def test_bytes_that_are_no_notebook_of_a_known_version_are_one_sentence(tmp_path, content):
    (tmp_path / "a.ipynb").write_bytes(content)
    with pytest.raises(PipelineError, match=r"is no complete notebook \(.+\): run it again"):
        executed.read(tmp_path / "a.ipynb")


@pytest.mark.parametrize(
    "changes",
    [
        {"cells": None},
        {"cells": "abc"},
        {"cells": [1]},
        {"metadata": []},
        {"cells": [{"cell_type": "html", "metadata": {}, "source": ""}]},
        {"cells": [{**new_code_cell("x"), "execution_count": "<img src=x>"}]},
        {"cells": [{**new_code_cell("x"), "outputs": {"a": 1}}]},
        {"cells": [{**new_code_cell("x"), "metadata": {"tags": "report"}}]},
    ],
    ids=range(8),
)
def test_a_notebook_with_values_of_wrong_types_is_one_sentence(tmp_path, changes):
    with pytest.raises(PipelineError, match=r"is no complete notebook \(.+\): run it again"):
        executed.read(raw(tmp_path / "a.ipynb", **changes))


def test_a_notebook_of_version_3_or_with_a_byte_order_mark_is_read(tmp_path):
    sheet = {"cells": [{"cell_type": "markdown", "metadata": {}, "source": "# A"}], "metadata": {}}
    old = {"nbformat": 3, "nbformat_minor": 0, "metadata": {"name": ""}, "worksheets": [sheet]}
    (tmp_path / "a.ipynb").write_text(json.dumps(old))
    assert executed.title_of(executed.read(tmp_path / "a.ipynb")) == "A"
    path = write(tmp_path / "b.ipynb", [new_markdown_cell("# B")])
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert executed.title_of(executed.read(path)) == "B"


@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (BEGIN.isoformat(), None),
        (None, None),
        (1, 2),
        ("yesterday", "today"),
        ({}, []),
        ((BEGIN + timedelta(seconds=1)).isoformat(), BEGIN.isoformat()),
    ],
)
def test_times_that_cannot_be_are_not_recorded(tmp_path, begin, end):
    path = write(tmp_path / "a.ipynb", [], start_time=begin, end_time=end)
    assert executed.span(executed.read(path)) is None


def test_a_time_without_a_zone_is_in_utc(tmp_path):
    times = {"start_time": "2026-01-01T10:00:00", "end_time": "2026-01-01T11:00:03+01:00"}
    path = write(tmp_path / "a.ipynb", [], **times)
    assert executed.seconds_covered([executed.span(executed.read(path))]) == 3


def test_what_papermill_notes_can_be_of_any_type(tmp_path):
    cells = [
        new_code_cell("1", metadata={"papermill": 3}),
        new_code_cell("2", metadata={"papermill": {"exception": True}}),
    ]
    path = raw(tmp_path / "a.ipynb", cells=cells)
    assert executed.failure(path).startswith("a stopped in cell number 2: no message is there")
    for noted in ("text", [1], None):
        path = raw(tmp_path / "b.ipynb", metadata={"papermill": noted})
        assert executed.span(executed.read(path)) is None
    kernel = {"name": "z", "display_name": "", "language": "fortran"}
    cells = [new_code_cell("a = 1", metadata={"tags": ["parameters"]})]
    about = {"kernelspec": kernel, "papermill": {"parameters": 1}}
    path = raw(tmp_path / "c.ipynb", cells=cells, metadata=about)
    with pytest.raises(PipelineError, match=r"c\.ipynb does not say its parameters \(.*fortran"):
        executed.parameters_used(path)
    assert executed.literal("[" * 5000) == "[" * 5000


def test_a_parameter_is_read_below_a_folder_with_braces(tmp_path):
    cells = [new_code_cell("a: int = 1  # b", metadata={"tags": ["parameters"]})]
    path = write(tmp_path / "{x} of {0}" / "a.ipynb", cells)
    assert executed.parameters_used(path) == [("a", 1, False, "b")]


def test_a_sentence_about_a_failure_steers_no_terminal(tmp_path):
    said = "patient \x1b]0;title\x07\x1b[2J\u202e\x9b1m\rgone"
    cell = new_code_cell("1", outputs=[new_output("error", ename="E", evalue=said, traceback=[])])
    cell.metadata = done(failed=True)
    sentence = executed.failure(write(tmp_path / "a.ipynb", [cell]))
    assert r"\x1b]0;title\x07" in sentence
    assert r"\u202e\x9b1m\rgone" in sentence
    assert sentence.isprintable()


LIVE = (
    f"{EVIL}<img src=x onerror=alert(1)><svg onload=alert(1)></svg><iframe src=//x></iframe>"
    '<a href="javascript:x">k</a><meta http-equiv=refresh content=0><style>@import "//x"</style>'
)
TYPES = (
    *("text/html", "text/markdown", "text/latex", "text/plain", "text/vnd.mermaid"),
    *("text/vnd.graphviz", "text/x<b>", "image/svg+xml", "image/png", "image/jpeg", "image/gif"),
    *("application/javascript", "application/pdf", "application/json", "video/mp4"),
    *("application/vnd.custom+json", "application/vnd.plotly.v1+json", executed.WIDGET_TYPE),
)


class Live(HTMLParser):
    """Finds tags and attributes that act, or that fetch something."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attributes):
        acts = ("script", "iframe", "object", "embed", "form", "base", "link", "svg", "video")
        if tag in acts or (tag == "meta" and dict(attributes).get("http-equiv") == "refresh"):
            self.found.append(tag)
        for name, value in attributes:
            if name.startswith("on") or re.match(r"\s*(javascript|http|//|x$)", value or ""):
                self.found.append((tag, name, value))


def test_no_type_of_output_and_no_metadata_brings_live_markup_to_the_page(tmp_path):
    outputs = [
        new_output("stream", name="stderr", text=LIVE),
        new_output("stream", name="other", text=LIVE),
        new_output("error", ename=LIVE, evalue=LIVE, traceback=[]),
    ]
    for kind in TYPES:
        content = {"a": LIVE} if kind.endswith("json") else LIVE
        size = {"width": "1 onload=alert(1)", "filenames": {kind: "//x/y.png"}}
        for data in ({kind: content}, {kind: content, "text/plain": f"{kind} {LIVE}"}):
            outputs += [
                new_output("display_data", data=data, metadata={**size, kind: size}),
                new_output("execute_result", data=data, execution_count=3),
            ]
    words = f"# A {LIVE}\n\n![a](attachment:a.png) [k](javascript:x)\n\n```mermaid\n{LIVE}\n```\n"
    attached = {"a.png": {"text/html": LIVE}}
    cells = [
        new_markdown_cell(words, attachments=attached, metadata={"tags": ["<b onclick=x>"]}),
        new_raw_cell(LIVE, metadata={"raw_mimetype": "text/html"}),
        new_code_cell(f"x = {LIVE!r}", outputs=outputs, metadata={"tags": ["<b onclick=x>"]}),
    ]
    path = write(tmp_path / "a.ipynb", cells)
    content = json.loads(path.read_text())
    content["metadata"] |= {"title": LIVE, "authors": [{"name": LIVE}], "widgets": {"a": LIVE}}
    content["metadata"]["language_info"] = {"name": LIVE, "pygments_lexer": LIVE}
    path.write_text(json.dumps(content))
    page = executed.write_html(path, tmp_path / "a.html", title=LIVE).read_text()
    live = Live()
    live.feed(page)
    assert live.found == []
    assert not re.search(r"<style[^>]*>[^<]*@import", page)
    for kind in ("text/vnd.mermaid", "application/javascript", "text/latex"):
        assert f"An output that a page cannot show ({kind})." in page
        assert f"{kind} &lt;script&gt;" in page  # its text, where it has one
    assert "Out[" in page
    # a picture, in which nothing acts
    assert f"data:image/svg+xml;base64,{base64.b64encode(LIVE.encode()).decode()}" in page


def test_no_file_of_the_machine_gets_into_a_page(tmp_path):
    (tmp_path / "secret.png").write_bytes(b"\x89PNG secret")
    secret = base64.b64encode(b"\x89PNG secret").decode()
    words = f"![a]({tmp_path}/secret.png) <img src='{tmp_path}/secret.png'> ![b](secret.png)"
    shown = new_output("display_data", data={"text/markdown": words})
    path = write(
        tmp_path / "a.ipynb", [new_markdown_cell(words), new_code_cell("x", outputs=[shown])]
    )
    page = executed.write_html(path, tmp_path / "a.html", title="a").read_text()
    assert secret not in page
    assert "secret.png" not in page


def test_the_words_above_a_picture_fetch_nothing():
    words = "**See** ![a](http://tracker/x.png) [k](javascript:alert(1)) <img src=//x>"
    shown = new_output("display_data", data={"image/png": PNG})
    tagged = new_code_cell("x", outputs=[shown], metadata={"tags": ["report"]})
    notebook = new_notebook(cells=[new_markdown_cell(words), tagged])
    (found,) = executed.tagged_pictures(notebook)
    live = Live()
    live.feed(found.caption)
    assert live.found == []
    assert "<strong>See</strong>" in found.caption
    assert "&lt;img src=//x&gt;" in found.caption


def test_halves_of_letters_become_question_marks_and_whole_ones_stay(tmp_path):
    path = write(tmp_path / "a.ipynb", [new_markdown_cell("# A"), new_code_cell("x")])
    path.write_text(path.read_text().replace("# A", r"# \ud800 \ud83d\ude00"))
    assert executed.title_of(executed.read(path)) == "? \U0001f600"
    assert "\U0001f600" in executed.write_html(path, tmp_path / "a.html", title="a").read_text()


def test_a_notebook_that_nbconvert_cannot_show_is_a_sentence(tmp_path):
    path = write(tmp_path / "a.ipynb", [new_markdown_cell("![a](attachment:b.png)")])
    with pytest.raises(PipelineError, match=r"a\.ipynb cannot be shown \(missing attachment"):
        executed.write_html(path, tmp_path / "a.html", title="a")
