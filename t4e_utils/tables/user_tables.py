"""Tables that people give: labels, sample submissions, fold tables.

They come from spreadsheets of many countries: other delimiters, a decimal comma, other encodings,
delimiters at the end of lines, gzip. Whatever cannot be read without a guess about its content is
refused with the line.
"""

from __future__ import annotations

import codecs
import csv
import difflib
import gzip
import io
import os
import re
import stat
import zlib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import pandas as pd

from t4e_utils.scans.problems import one_line
from t4e_utils.tables import CatalogError

MOST_BYTES = 1 << 27  # a table with more is none of patients; unpacked, so that gzip is bounded too
MOST_ROWS = 1 << 22  # of Parquet
DELIMITERS = ",;\t|"
BYTE_ORDERS = {
    codecs.BOM_UTF32_LE: "utf-32",  # before that of UTF-16, which it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# by whether bytes in even and in odd places are NUL
WITHOUT_MARK = {(False, True): ["utf-16-le"], (True, False): ["utf-16-be"]}
SAVE_AS_CSV = "open it in the program that made it and save it as CSV UTF-8"
NO_TABLES = {
    b"PK\x03\x04": f"is an Excel workbook or a zip archive: {SAVE_AS_CSV}, or unpack it",
    b"\xd0\xcf\x11\xe0": f"is an Excel workbook: {SAVE_AS_CSV}",
    b"%PDF": f"is a PDF: {SAVE_AS_CSV}",
}
STATED = re.compile(r'\A"?sep=([,;\t|])"?(?=[\r\n])')  # what spreadsheets write above the header
LONGEST = 100_000  # characters of a header; a cell may have 131,072
CONTROL = re.compile("[\0-\x08\x0b\x0e-\x1f\x7f]")
INVISIBLE = "\ufeff\u200b\u200e\u200f\u2060"  # marks that some programs leave around a cell
# ="00006" and '00006 keep the zeros in spreadsheets
KEPT_AS_TEXT = re.compile(r"=\"([^\"]*)\"|'([0-9].*)", re.DOTALL)
AS_NUMBER = re.compile(r"[-+]?([0-9]+([.,][0-9]*)?|[.,][0-9]+)([eE][-+]?[0-9]+)?")
ROUNDED = re.compile(r"[0-9]+[.,][0-9]+[eE]\+?[0-9]+")


def table_at(path: str | Path) -> Path | None:
    """Return where a table is: at this path, or there with .gz; None if it is at neither.

    A link is there, even if nothing is behind it, so that it is not passed over in silence.
    """
    places = (Path(path), Path(f"{path}.gz"))
    return next((place for place in places if os.path.lexists(place)), None)


def read_user_table(path: str | Path, *, columns: Sequence[str]) -> pd.DataFrame:
    """Read columns of a table as text: CSV in its many forms, also in gzip, or Parquet.

    Delimiters are comma, semicolon, tab or |, texts UTF-8, UTF-16, UTF-32 or Windows-1252. Blanks
    around names and values, empty lines and delimiters at the end of a line are left out. "NA" is
    text like any other.

    Args:
        path: of the table; with .gz if only that is there.
        columns: names as in the header.

    Returns:
        The columns in the given order, all text, "" where nothing stands. The index is the line in
        the file, or in Parquet the row from 1.

    Raises:
        CatalogError: the file is missing, no table or damaged; it lacks a column or has it twice;
            or a line has another number of cells than the header.
    """
    path = table_at(path) or Path(path)
    content = _content(path)
    if content.startswith(b"PAR1"):
        table = _of_parquet(path, content)
        header = [str(name).strip() for name in table.columns]
        place = _places(path, header, columns)
        lines, found = range(1, len(table) + 1), table.iloc[:, place]
        cells = found.where(found.notna(), "").map(partial(_shown, path)).to_numpy().tolist()
    else:
        text = _text(path, content)
        delimiter = _delimiter(text, columns)
        rows = _rows(path, text, delimiter)
        _, header = next(rows, (1, []))
        if not header:
            raise CatalogError(
                f"The table {path} is empty: it must have the columns {' and '.join(columns)}."
            )
        place = _places(path, header, columns)
        pairs = [(line, [row[k] for k in place]) for line, row in rows]
        lines, cells = [line for line, _ in pairs], [row for _, row in pairs]
    values = [[_cell(cell) for cell in row] for row in cells]
    index = pd.Index(lines, name="line", dtype=int)
    return pd.DataFrame(values, index=index, columns=list(columns), dtype=object)


def number(text: str) -> float:
    """Return the number that a cell holds, with point or comma before the decimals; NaN if none."""
    return float(text.replace(",", ".")) if AS_NUMBER.fullmatch(text) else float("nan")


def read_ids(path: str | Path, *, id_column: str, value_column: str) -> pd.DataFrame:
    """Read a table of ids and values as text, in its order.

    Returns:
        Columns patient_id (text, unchanged) and value (text). The index is the line in the file.

    Raises:
        CatalogError: as `read_user_table`; or the table has no rows, the header twice, a row no
            id, an id stands twice or was rounded by a spreadsheet.
    """
    table = read_user_table(path, columns=(id_column, value_column))
    table.columns = ["patient_id", "value"]
    ids = table["patient_id"]
    if table.empty:
        raise CatalogError(f"{path} has no rows: it must name at least one patient.")
    if (empty := ids[ids == ""]).size:
        raise CatalogError(
            f"{path} has a row without {id_column} (line {empty.index[0]}): correct the table."
        )
    if (again := ids[ids == id_column]).size:
        raise CatalogError(
            f"{path} has its header again in line {again.index[0]}: take the line out."
        )
    if (rounded := ids[[bool(ROUNDED.fullmatch(one)) for one in ids]]).size:
        raise CatalogError(
            f"{path} has the {id_column} {rounded.iloc[0]} (line {rounded.index[0]}), which a "
            "spreadsheet has rounded: take the table as it was before, with ids as text."
        )
    if (repeated := ids[ids.duplicated()]).size:
        raise CatalogError(
            f"{path} names {repeated.iloc[0]} more than once (line {repeated.index[0]}): each "
            "patient must have one row."
        )
    return table


def read_labels(path: str | Path, *, id_column: str, label_column: str) -> pd.DataFrame:
    """Read patient labels.

    Returns:
        Columns patient_id (text) and label (0 or 1).

    Raises:
        CatalogError: as `read_ids`, or a label other than 0 and 1.
    """
    table = read_ids(path, id_column=id_column, value_column=label_column)
    numbers = table["value"].map(number)
    if (wrong := table[~numbers.isin([0, 1])]).size:
        first = wrong.iloc[0]
        raise CatalogError(
            f"{path} gives {first['patient_id']} the {label_column} {first['value']!r} (line "
            f"{wrong.index[0]}): a label must be 0 or 1."
        )
    labels = pd.DataFrame({"patient_id": table["patient_id"], "label": numbers.astype(int)})
    return labels.reset_index(drop=True)


def _content(path: Path) -> bytes:
    """Return what a file holds, without gzip.

    Raises:
        CatalogError: it cannot be read, or is too large.
    """
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):  # a pipe would never end
            what = "a folder" if stat.S_ISDIR(mode) else "no file"
            raise CatalogError(f"The table {path} is {what}: give the file of the table.")
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
        if content.startswith(b"\x1f\x8b") and len(content) <= MOST_BYTES:
            with gzip.open(io.BytesIO(content)) as unpacked:
                content = unpacked.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        if os.path.islink(path):
            raise CatalogError(
                f"The table {path} is a link to {os.readlink(path)}, which is not there: mend it."
            ) from error
        raise CatalogError(
            f"The table {path} is not there: see the README's section on data for the layout."
        ) from error
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise CatalogError(f"The table {path} is damaged ({error}): get it again.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise CatalogError(
            f"The table {path} cannot be read ({reason}): make it readable."
        ) from error
    if len(content) > MOST_BYTES:
        raise CatalogError(
            f"The table {path} has more than {MOST_BYTES >> 20} MiB: give a table of patients."
        )
    return content


def _of_parquet(path: Path, content: bytes) -> pd.DataFrame:
    import pyarrow.parquet as pq

    from t4e_utils.tables.store import DAMAGED

    try:
        n_rows = pq.read_metadata(io.BytesIO(content)).num_rows
        if n_rows > MOST_ROWS:  # which can be a few bytes, if they are alike
            raise CatalogError(
                f"The table {path} has {n_rows:,} rows, more than {MOST_ROWS:,}: give a table of "
                "patients."
            )
        # as objects here, where text that is damaged is an error
        return pd.read_parquet(io.BytesIO(content)).reset_index().astype(object)
    except DAMAGED as error:
        raise CatalogError(
            f"The table {path} is damaged ({one_line(error)}): get it again."
        ) from error


def _shown(path: Path, value: object) -> str:
    """Return a value of Parquet as text; some programs store text without saying that it is."""
    if not isinstance(value, bytes):
        return str(value)
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise CatalogError(
            f"The table {path} holds {value[:20]!r}, which is no text: save it as CSV."
        ) from error


def _text(path: Path, content: bytes) -> str:
    """Return the text of a file, whatever its encoding.

    Raises:
        CatalogError: it is no text.
    """
    for start, sentence in NO_TABLES.items():
        if content.startswith(start):
            raise CatalogError(f"The table {path} {sentence}.")
    text = _decoded(content)
    if text is None:
        raise CatalogError(f"The table {path} is no text, or it is cut off: {SAVE_AS_CSV}.")
    text = text.rstrip("\x1a")  # the end of a file in DOS
    if found := CONTROL.search(text):
        line = len(re.findall("\r\n|\r|\n", text[: found.start()])) + 1
        raise CatalogError(
            f"The table {path} is no text: line {line} holds the character "
            f"{found.group()!r}. Please {SAVE_AS_CSV}."
        )
    return text


def _decoded(content: bytes) -> str | None:
    sample = content[: 1 << 12]
    nuls = tuple(sample[k::2].count(0) > len(sample) // 4 for k in (0, 1))
    marked = [name for mark, name in BYTE_ORDERS.items() if content.startswith(mark)]
    # without a mark: where most letters are ASCII, every other byte is NUL
    likely = marked[:1] or WITHOUT_MARK.get(nuls, ["utf-8-sig", "cp1252", "latin-1"])
    for encoding in likely:
        with suppress(UnicodeDecodeError):
            return content.decode(encoding)
    return None


def _delimiter(text: str, columns: Sequence[str]) -> str:
    """Return the delimiter that finds most of the columns in the header, then most cells."""
    if stated := STATED.match(text):
        return stated.group(1)
    first = re.match(r"\s*([^\r\n]*)", text).group(1)[:LONGEST]

    def found(delimiter: str) -> tuple[int, int]:
        header = [_cell(cell) for row in csv.reader([first], delimiter=delimiter) for cell in row]
        return len({*header} & {*columns}), len(header)

    return max(DELIMITERS, key=found)


def _rows(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of the header and of each row, all of one length."""
    text = STATED.sub("", text)
    text = re.sub(r'" +(?=[,;|\r\n]|\Z)', '"', text)  # blanks behind quotes, which csv refuses
    form = {"delimiter": delimiter, "skipinitialspace": True, "strict": True}
    reader, line, n = csv.reader(io.StringIO(text, newline=""), **form), 1, 0
    try:
        for row in reader:
            start, line = line, reader.line_num + 1
            while row and not row[-1].strip() and (len(row) > n or not any(map(str.strip, row))):
                row.pop()  # delimiters at the end, or of an empty line
            if row and len(row) != (n := n or len(row)):
                raise CatalogError(
                    f"Line {start} of {path} has another number of cells ({len(row)}) than the "
                    f"header ({n}): correct the line."
                )
            if row:
                yield start, row
    except csv.Error as error:
        raise CatalogError(
            f"Line {line} of {path} cannot be read ({error}): correct its quotation marks."
        ) from error


def _places(path: Path, header: Sequence[str], columns: Sequence[str]) -> list[int]:
    """Return where the columns stand in the header.

    Raises:
        CatalogError: one is missing or stands twice.
    """
    names = [_cell(name) for name in header]
    if missing := [column for column in columns if column not in names]:
        lower = {name.lower().replace(" ", ""): name for name in names}
        near = difflib.get_close_matches(missing[0].lower(), lower, n=1)
        hint = f" (is {lower[near[0]]!r} meant?)" if near else ""
        raise CatalogError(
            f"{path} has no column {', '.join(missing)}; it has {', '.join(names)[:300]}: correct "
            f"the header{hint}."
        )
    if twice := [column for column in columns if names.count(column) > 1]:
        raise CatalogError(f"{path} has the column {twice[0]} twice: take one out.")
    return [names.index(column) for column in columns]


def _cell(text: str) -> str:
    """Return a cell without blanks, invisible marks and what a spreadsheet puts around text."""
    if text.isalnum():
        return text
    text = text.strip().strip(INVISIBLE).strip()
    kept = KEPT_AS_TEXT.fullmatch(text)
    return next(filter(None, kept.groups()), "").strip() if kept else text
