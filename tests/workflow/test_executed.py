"""What papermill leaves in an executed copy, read back: notebooks made by hand, in its form."""

from __future__ import annotations

import base64
import re
from datetime import datetime, timedelta
from html.parser import HTMLParser

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

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
