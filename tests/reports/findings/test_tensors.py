from __future__ import annotations

from cvmprof.reports.numbers.tensors import LateTensor, Tensors
from cvmprof.tests.reports.rows import incident, spoken
from cvmprof.tests.reports.synthetic import MS, START


def late(name: str, wait_ms: int, chunks: int) -> LateTensor:
    return LateTensor(name, "/m", "F32", (8,), 0, 32, START, wait_ms * MS, chunks, chunks, ())


LATE = tuple(late(f"layers.{n}", 25 - 5 * n, n) for n in range(5))


def test_the_latest_tensors_by_name_with_shares_of_the_sum() -> None:
    (finding,) = spoken(tensors=Tensors(292, 290, 5, 75 * MS, LATE))
    assert finding.tone == "note"
    assert finding.headline == "5 of 292 tensors were late: 75.0 ms of waiting in all."
    assert finding.meaning == (
        "Longest first: layers.0 waited 25.0 ms (33 %), layers.1 waited 20.0 ms (27 %, 1 chunk), "
        "layers.2 waited 15.0 ms (20 %, 2 chunks), layers.3 waited 10.0 ms (13 %, 3 chunks)."
    )


def test_one_tensor_and_a_long_name() -> None:
    (finding,) = spoken(tensors=Tensors(1, 1, 1, 5 * MS, (late("x" * 100, 5, 2),)))
    assert finding.headline == "1 of 1 tensor was late: 5.00 ms of waiting in all."
    assert finding.meaning == f"Longest first: {'x' * 79}… waited 5.00 ms (100 %, 2 chunks)."


def test_waits_below_two_per_cent_of_the_run_are_no_finding() -> None:
    assert spoken(tensors=Tensors(9, 9, 1, 2 * MS - 1, (late("a", 1, 1),))) == []
    assert len(spoken(tensors=Tensors(9, 9, 1, 2 * MS, (late("a", 2, 1),)))) == 1
    assert spoken(tensors=Tensors(9, 9, 0, 0, ())) == []


def test_models_whose_tensors_are_not_known_are_named_once() -> None:
    (finding,) = spoken(incidents=(incident("unnamed", detail="a: no graph"),))
    assert finding.headline == "Not every tensor of the models is known."
    assert finding.meaning == "a: no graph."
    (finding,) = spoken(incidents=tuple(incident("unnamed", detail=str(n)) for n in range(5)))
    assert finding.meaning == "0; 1; 2; 2 more are among the incidents."
