import numpy as np
import pytest

from sksae.command_line import read_text_table
from tests.cases import each_case


def table(content, **columns):
    return read_text_table(
        content, source="a.csv", **{"text": "text", "target": "stars", **columns}
    )


@each_case("delimiter", [",", ";", "\t", "|"])
def test_any_common_delimiter_and_cells_of_several_lines(delimiter):
    lines = [["stars", "text"], ["4", '"good, ""very""\nfood; a|b\tc"'], ["2.5", "bad"]]
    content = "\r\n".join(delimiter.join(line) for line in lines)
    read = table(content)
    assert read.texts == ['good, "very"\nfood; a|b\tc', "bad"]
    np.testing.assert_array_equal(read.target, [4, 2.5])
    assert (read.groups, read.n_left_out) == (None, 0)


def test_rows_with_an_empty_cell_are_left_out():
    read = table("text,stars,by\na,1,x\n ,2,x\nb,,y\nc,nan,y\nd,3,\ne\n\nf,2,y\n", groups="by")
    assert read.texts == ["a", "f"]
    assert (read.target.tolist(), read.groups.tolist(), read.n_left_out) == ([1, 2], ["x", "y"], 5)
    assert read.of([1]).groups.tolist() == ["y"]
    assert sorted(read.sample(5, 0).texts) == ["a", "f"]


def test_a_target_with_a_word_is_labels():
    assert table("text,stars\na,1\nb,two\n").target.tolist() == ["1", "two"]


@each_case(
    "content, message",
    [
        ("text,rating\na,1\n", "a.csv has no column 'stars'; there are text, rating"),
        ("a;b\n1;2\n", "no column 'text'; there are a, b"),
        ("", "no column 'text'; there are none"),
        ("text,stars\n", "a.csv has no rows below the names"),
        ("text,stars\n,1\n,2\n", "the column 'text' of a.csv is empty"),
        ("text,stars\na,\nb,\n", "the column 'stars' of a.csv is empty"),
        ("text,stars\na,5\nb,5\n,4\n", "'stars' of a.csv has one value, 5, in 2 rows with a text"),
        ("text,stars\na,nan\nb,inf\n", "no row of a.csv has a value in each of text, stars"),
        ('text,stars\na,1\n"b,2\n', "a.csv is no CSV: line 3: unexpected end of data"),
    ],
)
def test_what_is_no_table_of_texts_and_a_target(content, message):
    with pytest.raises(ValueError, match=message):
        table(content)
