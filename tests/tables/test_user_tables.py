"""Tables as people save them: read as an independent reader does when told how, or refused."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import time

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t4e_utils.tables import CatalogError, user_tables
from t4e_utils.tables.user_tables import number, read_ids, read_labels, read_user_table, table_at

COLUMNS = {"id_column": "BraTS21ID", "value_column": "MGMT_value"}
LABELS = {"id_column": "BraTS21ID", "label_column": "MGMT_value"}
PLAIN = "BraTS21ID,MGMT_value\n00006,1\n00002,0\n"


@pytest.fixture
def saved(tmp_path):
    """Write a table and return its path."""

    def save(content: str | bytes, name: str = "labels.csv"):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return save


FORMS = {
    "as it is": PLAIN,
    "other columns": "fold,MGMT_value,BraTS21ID\nx,1,00006\ny,0,00002\n",
    "marked UTF-8": b"\xef\xbb\xbf" + PLAIN.encode(),
    "UTF-16": PLAIN.encode("utf-16"),
    "UTF-16, big end first": b"\xfe\xff" + PLAIN.encode("utf-16-be"),
    "UTF-16 without a mark": PLAIN.encode("utf-16-le"),
    "UTF-16, big end first, without a mark": PLAIN.encode("utf-16-be"),
    "UTF-32": PLAIN.encode("utf-32"),
    "UTF-16 with tabs": PLAIN.replace(",", "\t").encode("utf-16"),
    "Windows-1252": "BraTS21ID,MGMT_value,Stadt\n00006,1,Köln €\n00002,0,\n".encode("cp1252"),
    "another encoding": b"BraTS21ID,MGMT_value,place\n00006,1,\x81\x8d\n00002,0,\xe9\n",
    "semicolons": PLAIN.replace(",", ";"),
    "tabs": PLAIN.replace(",", "\t"),
    "bars": PLAIN.replace(",", "|"),
    "semicolons that are stated": "sep=;\r\n" + PLAIN.replace(",", ";").replace("\n", "\r\n"),
    "commas in the cells of a table with semicolons": "a,b,c,d;BraTS21ID;MGMT_value\n"
    ",,,;00006;1\n,,,;00002;0\n",
    "ends of lines of Windows": PLAIN.replace("\n", "\r\n"),
    "ends of lines of old Macs": PLAIN.replace("\n", "\r"),
    "no end of the last line": PLAIN.rstrip(),
    "end of file of DOS": PLAIN + "\x1a",
    "gzip": gzip.compress(PLAIN.encode()),
    "delimiters at the ends": PLAIN.replace("\n", ",\n"),
    "delimiters at the ends of rows": "BraTS21ID,MGMT_value\n00006,1,\n00002,0,,,\n",
    "delimiters at the end of the header": "BraTS21ID,MGMT_value,,\n00006,1\n00002,0\n",
    "empty lines": "\n\nBraTS21ID,MGMT_value\n\n00006,1\n , \n00002,0\n,,\n\n   \n",
    "blanks": " BraTS21ID ,\tMGMT_value\n 00006, 1 \n\xa000002 ,0\ufeff\n",
    "quotes": '"BraTS21ID" , "MGMT_value"\n"00006", "1" \n"00002","0"\n',
    "lines within cells": 'BraTS21ID,note,MGMT_value\n00006,"two\nlines, quoted ""so""",1\n'
    "00002,,0\n",
    "ids kept as text by a spreadsheet": 'BraTS21ID,MGMT_value\n="00006",1\n\'00002,0\n',
    "an index without a name": ",BraTS21ID,MGMT_value\n0,00006,1\n1,00002,0\n",
    "another column twice": "BraTS21ID,MGMT_value,x,x\n00006,1,,\n00002,0,3,4\n",
}


@pytest.mark.parametrize("content", FORMS.values(), ids=FORMS)
def test_one_table_is_read_from_each_of_its_forms(content, saved):
    table = read_ids(saved(content), **COLUMNS)
    assert table.to_numpy().tolist() == [["00006", "1"], ["00002", "0"]]
    labels = read_labels(saved(content), **LABELS)
    assert labels.to_numpy().tolist() == [["00006", 1], ["00002", 0]]
    assert labels["label"].dtype == int


def test_parquet_is_read_as_text_too(saved, tmp_path):
    path = tmp_path / "labels.parquet"
    table = pd.DataFrame({"BraTS21ID": ["00006", "NA"], "MGMT_value": [1.0, None], "n": [3, 4]})
    table.to_parquet(path)
    found = read_user_table(path, columns=("BraTS21ID", "MGMT_value", "n"))
    assert found.to_numpy().tolist() == [["00006", "1.0", "3"], ["NA", "", "4"]]
    table.set_index("BraTS21ID").to_parquet(path)
    assert read_ids(path, **COLUMNS)["patient_id"].tolist() == ["00006", "NA"]
    with pytest.raises(CatalogError, match=r"labels\.csv is damaged \(.*\): get it again"):
        read_ids(saved(path.read_bytes()[:-20]), **COLUMNS)


def test_text_that_parquet_holds_as_bytes_is_text(tmp_path):
    path = tmp_path / "labels.parquet"
    table = pd.DataFrame(
        {"BraTS21ID": [b"00006", "Mayr\u00e9".encode()], "MGMT_value": [b"1", b"0"]}
    )
    table.to_parquet(path)
    assert read_ids(path, **COLUMNS).to_numpy().tolist() == [["00006", "1"], ["Mayr\u00e9", "0"]]
    table["BraTS21ID"] = [b"00006", b"Mayr\xe9"]
    table.to_parquet(path)
    with pytest.raises(CatalogError, match=r"labels\.parquet holds b'Mayr.xe9', which is no text"):
        read_ids(path, **COLUMNS)


def test_damaged_text_in_parquet_is_damage(tmp_path):
    path = tmp_path / "labels.parquet"
    table = pd.DataFrame({"BraTS21ID": ["abcdefgh", "b"], "MGMT_value": [1, 0]})
    table.to_parquet(path, compression=None, use_dictionary=False, write_statistics=False)
    path.write_bytes(path.read_bytes().replace(b"abcdefgh", b"abc\xff\xfefgh"))
    with pytest.raises(CatalogError, match=r"labels\.parquet is damaged"):
        read_ids(path, **COLUMNS)


def test_parquet_that_becomes_large_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "labels.parquet"
    n = (1 << 22) + 1
    pd.DataFrame({"BraTS21ID": np.ones(n, np.int8), "MGMT_value": np.ones(n, np.int8)}).to_parquet(
        path
    )
    assert path.stat().st_size < 50_000
    with pytest.raises(CatalogError, match=r"labels\.parquet has 4,194,305 rows, more than"):
        read_ids(path, **COLUMNS)


TEXT = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=6)
# a cell that looks as if a spreadsheet had kept it as text is another one than its content
TEXT = TEXT.filter(lambda text: not text.startswith(("=", "'")))


@settings(deadline=None)
@given(
    rows=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=5),
    delimiter=st.sampled_from(",;\t|"),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_is_written_in_any_form_is_what_pandas_reads_when_told_the_form(
    tmp_path_factory, rows, delimiter, encoding, end, quoting
):
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting)
    writer.writerows([("id", "value"), *rows])
    path = tmp_path_factory.mktemp("table") / "t.csv"
    path.write_bytes(text.getvalue().encode(encoding))
    form = {"sep": delimiter, "encoding": encoding, "keep_default_na": False, "dtype": str}
    expected = pd.read_csv(path, **form)
    found = read_user_table(path, columns=("id", "value"))
    assert found.to_numpy().tolist() == expected.to_numpy().tolist() == [list(r) for r in rows]


def test_the_index_is_the_line_of_the_file(saved):
    path = saved('\nid,note\n\na,"x\ny"\n,\nb,\n')
    assert read_user_table(path, columns=("id",)).index.tolist() == [4, 7]


@pytest.mark.parametrize("name", ["NA", "None", "nan", "null", "N/A", "", "-"])
def test_no_word_stands_for_nothing(name, saved):
    table = read_user_table(saved(f"id,value\n{name},1\n"), columns=("id", "value"))
    assert table.to_numpy().tolist() == [[name, "1"]]


REFUSED = {
    "": "is empty: it must have the columns BraTS21ID and MGMT_value",
    "\n \n": "is empty",
    "BraTS21ID,label\n00001,1\n": (
        "has no column MGMT_value; it has BraTS21ID, label: correct the header"
    ),
    "brats21id,MGMT value\n1,1\n": (
        "has no column BraTS21ID, MGMT_value; .* correct the header \\(is 'brats21id' meant"
    ),
    "BraTS21ID,MGMT_value,MGMT_value\n00001,1,1\n": "has the column MGMT_value twice: take one out",
    "BraTS21ID,MGMT_value\n": "has no rows: it must name at least one patient",
    "BraTS21ID,MGMT_value\n00001,1\n,0\n": r"has a row without BraTS21ID \(line 3\)",
    "BraTS21ID,MGMT_value\n00001,1\n00001,0\n": r"names 00001 more than once \(line 3\)",
    "BraTS21ID,MGMT_value\n1,1\nBraTS21ID,MGMT_value\n": "has its header again in line 3",
    "BraTS21ID,MGMT_value\n1.23457E+11,1\n": r"has the BraTS21ID 1.23457E\+11 \(line 2\), which a",
    "BraTS21ID,MGMT_value\n00001,2\n": r"gives 00001 the MGMT_value '2' \(line 2\): a label must",
    "BraTS21ID,MGMT_value\n00001,\n": "gives 00001 the MGMT_value '' .*: a label must be 0 or 1",
    "BraTS21ID,MGMT_value\n1,nan\n": "gives 1 the MGMT_value 'nan' .*: a label must be 0 or 1",
    "BraTS21ID,MGMT_value\n1,1\n\n2,0,5\n": (
        r"Line 4 of .*labels\.csv has another number of cells \(3\) than the header \(2\): correct"
    ),
    "BraTS21ID,MGMT_value\n1,1\n2\n": r"Line 3 of .* has another number of cells \(1\)",
    'BraTS21ID,MGMT_value\n1,"1\n2,0\n': "Line 2 of .* cannot be read .*: correct its quotation",
    "BraTS21ID,MGMT_value\n1,1\n2,\0\n": "is no text: line 3 holds the character '.x00'. Please",
    b"\xff\xfeB\0r": "is no text, or it is cut off: open it",
    b"PK\x03\x04 xl/workbook.xml": "is an Excel workbook or a zip archive: open it in the program",
    b"\xd0\xcf\x11\xe0\xa1": "is an Excel workbook: open it",
    b"%PDF-1.7": "is a PDF: open it",
    gzip.compress(PLAIN.encode())[:-9]: "is damaged .*: get it again",
    b"\x1f\x8b\x08": "is damaged .*: get it again",
}


@pytest.mark.parametrize(("content", "sentence"), REFUSED.items(), ids=range(len(REFUSED)))
def test_a_table_that_cannot_be_used_is_refused(content, sentence, saved):
    with pytest.raises(CatalogError, match=rf"labels\.csv.*{sentence}|{sentence}"):
        read_labels(saved(content), **LABELS)


def test_what_is_no_file_to_read_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "labels.csv"

    def refused(sentence: str) -> None:
        with pytest.raises(CatalogError, match=rf"labels\.csv {sentence}"):
            read_ids(path, **COLUMNS)

    refused("is not there: see the README's section on data")
    path.symlink_to(tmp_path / "nowhere")
    refused("is a link to .*nowhere, which is not there: mend it")
    path.unlink()
    path.symlink_to(path)
    refused(r"cannot be read \(Too many levels of symbolic links\): make it readable")
    path.unlink()
    path.mkdir()
    refused("is a folder: give the file of the table")
    path.rmdir()
    os.mkfifo(path)
    refused("is no file: give the file of the table")
    path.unlink()
    path.write_text(PLAIN)

    def refuse(*args):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    refused(r"cannot be read \(Permission denied\): make it readable")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_table_of_more_than_the_bound_is_refused_packed_or_not(pack, saved, monkeypatch):
    monkeypatch.setattr(user_tables, "MOST_BYTES", 1 << 20)
    assert len(read_ids(saved(pack(PLAIN.encode())), **COLUMNS)) == 2
    with pytest.raises(CatalogError, match=r"labels\.csv has more than 1 MiB: give a table of pat"):
        read_ids(saved(pack(PLAIN.encode() + b"\n" * (1 << 20))), **COLUMNS)


def test_a_table_is_found_in_gzip_and_a_link_to_nothing_is_not_passed_over(tmp_path, saved):
    path = tmp_path / "labels.csv"
    assert table_at(path) is None
    packed = saved(gzip.compress(PLAIN.encode()), "labels.csv.gz")
    assert table_at(path) == packed
    assert len(read_ids(path, **COLUMNS)) == 2
    path.symlink_to(tmp_path / "nowhere")
    assert table_at(path) == path


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("1.0", 1), ("0,5", 0.5), (",5", 0.5), ("-2.", -2), ("1E-2", 0.01), ("+3,00", 3)],
)
def test_numbers_have_a_point_or_a_comma(text, value):
    assert number(text) == value


@pytest.mark.parametrize("text", ["", "nan", "inf", "1 0", "1_0", "1.000,0", "0x1", "true", "٣"])
def test_what_is_no_number_is_nan(text):
    assert number(text) != number(text)


def test_many_rows_take_no_time(saved):
    path = saved("id,value\n" + "".join(f"{k:07d};x,{k % 2}\n" for k in range(100_000)))
    start = time.perf_counter()
    table = read_ids(path, id_column="id", value_column="value")
    assert time.perf_counter() - start < 5
    assert table["patient_id"].iloc[-1] == "0099999;x"
    assert re.fullmatch("[01]", table["value"].iloc[-1])
