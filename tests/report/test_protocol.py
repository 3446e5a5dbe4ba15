"""Protocols: what two numbers must share, and what a table varies on purpose."""

from support import synthetic_study as synthetic

from harness.report.reading.protocol import (
    SAMPLING_COLUMNS,
    TRAINING_COLUMNS,
    differing_keys,
    mixes,
    sampling_protocol,
    training_protocol,
    training_values,
    varied_keys,
)


def test_keys_that_differ_are_named_in_their_order() -> None:
    first = {"sampler": "heun", "nfe": "24", "generated": "1000"}
    assert differing_keys([]) == differing_keys([first]) == []
    assert differing_keys([first, first | {"generated": "500"}, first | {"nfe": "12"}]) == ["nfe", "generated"]


def test_a_table_may_vary_how_images_are_drawn_and_what_its_labels_set() -> None:
    table = synthetic.table_of("table3")
    protocol = {key: str(value) for key, value in sampling_protocol(table.runs[0]).items()}
    protocol |= {"nfe": "24", "generated": "1000"}
    assert not mixes(table, [protocol, protocol | {"guidance": "1.5", "nfe": "48"}])
    assert mixes(table, [protocol, protocol | {"nfe": "48"}])  # the same way of drawing cannot count otherwise
    assert mixes(table, [protocol, protocol | {"generated": "500"}])
    assert "group" not in varied_keys(table)


def test_training_values_name_the_cells_that_have_each() -> None:
    table = synthetic.table_of("table3")
    values = training_values(table)
    assert tuple(values) == TRAINING_COLUMNS
    assert [cell.label("block") for cell in values["group"]["16"]] == [c.label("block") for c in table.cells[1:]]
    assert list(values["training_precision"]) == ["fp32"]
    assert training_protocol(table.runs[0])["group"] == ""
    assert set(SAMPLING_COLUMNS) < set(sampling_protocol(table.runs[0]))
