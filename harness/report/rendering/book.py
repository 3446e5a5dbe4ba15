"""Where trainings are described: in the report itself while they are light, else on pages of their own beside it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.files import write_bytes
from harness.report.rendering.html import render, script_of
from harness.report.rendering.trainings import Training

IN_PAGE, A_PAGE = 3_000_000, 1_500_000  # bytes of descriptions: at most in the report itself, and about on a page


@dataclass(frozen=True)
class Book:
    """The descriptions of a study's trainings. `pages` is empty where they stand in the report itself."""

    study: str
    trainings: tuple[Training, ...]
    pages: tuple[tuple[Training, ...], ...]

    @property
    def places(self) -> Mapping[str, str]:
        """Training → the file that describes it, relative to the report; "" for the report itself."""
        names = {t.train_id: _name(index) for index, page in enumerate(self.pages) for t in page}
        return {training.train_id: names.get(training.train_id, "") for training in self.trainings}

    def articles(self) -> Iterator[str]:
        """Yield the descriptions that stand in the report itself."""
        return iter(()) if self.pages else (_article(self.study, training, "") for training in self.trainings)

    def write(self, target: Path) -> None:
        """Write the pages beside `target/index.html`, and remove those of an earlier report."""
        kept = {target / _name(index) for index in range(len(self.pages))}
        for path in set((target / "runs").glob("*.html")) - kept:
            path.unlink()
        for index, page in enumerate(self.pages):
            articles = [_article(self.study, training, "../index.html") for training in page]
            values = {"study": self.study, "place": index + 1, "places": len(self.pages), "articles": articles}
            html = render(values | script_of("theme.js"), "trainings.html.j2")
            write_bytes(target / _name(index), html.encode())


def bound(study: str, trainings: Sequence[Training]) -> Book:
    """Bind the descriptions: on as many pages as they need, or on none."""
    if sum(training.weight for training in trainings) <= IN_PAGE:
        return Book(study, tuple(trainings), ())
    pages: list[list[Training]] = []
    weight = A_PAGE
    for training in trainings:
        if weight + training.weight > A_PAGE:
            pages.append([])
            weight = 0
        pages[-1].append(training)
        weight += training.weight
    return Book(study, tuple(trainings), tuple(map(tuple, pages)))


def _name(index: int) -> str:
    return f"runs/{index + 1}.html"


def _article(study: str, training: Training, home: str) -> str:
    return render({"study": study, "training": training, "home": home}, "training.html.j2")
