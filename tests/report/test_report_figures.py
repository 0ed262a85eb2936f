import re

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from ser_pipeline.report import drawing, figures, gallery
from ser_pipeline.report.contents import Choice, make_report
from ser_pipeline.report.tsne import planes, utterance_means
from support.run_folders import Planted, people, write_examples, write_run

WHO = people(each=16)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Draw the figures of a full model and of one without co-attention; returns them by kind, and their folder."""
    root = tmp_path_factory.mktemp("figures")
    for ablation in ("full", "full-mean"):
        run = write_run(root / "runs", WHO, Planted(ablation=ablation, embeddings=True))
        for fold in run.glob("*/segments.npz"):
            write_examples(fold.parent, [0, 5, 9], np.random.default_rng(0))
    report = make_report(root / "runs", Choice())
    (found,) = gallery.pictures(report, root / "figures").values()
    return {picture.id.split("-")[0]: picture for picture in found}, root / "figures"


def test_every_figure_is_in_the_page_and_beside_it_as_svg_pdf_and_png(pictures):
    found, folder = pictures
    assert set(found) == {"confusion", "calibration", "curves", "scores", "embeddings", "folds", "attention"}
    for picture in found.values():
        assert all(panel.startswith("<svg") and panel.endswith("</svg>") for panel in picture.panels)
        assert {name.rsplit(".")[-1] for name in picture.files} == {"svg", "pdf", "png"}
        assert all((folder / name).stat().st_size > 1000 for name in picture.files)
    assert sorted(file.name for file in folder.iterdir()) == sorted(name for p in found.values() for name in p.files)


def test_nothing_is_drawn_twice_for_a_file_and_the_png_is_fine_enough_for_print(tmp_path, monkeypatch):
    drawn, draw = [], Figure.draw
    monkeypatch.setattr(Figure, "draw", lambda figure, renderer: (drawn.append(figure), draw(figure, renderer)))
    panels = [figures.scatter("one", np.eye(2), np.arange(2), "ab")] * 2
    drawing.render(drawing.Plan("two", "", "", "", panels, (3.2, 2.7)), tmp_path)
    assert len(drawn) == len(panels) + len(drawing.KINDS)
    assert Image.open(tmp_path / "two.png").size == (1280, 540)


def test_the_papers_figures_have_their_panels(pictures):
    found, _ = pictures
    assert len(found["embeddings"].panels) == 4
    assert len(found["confusion"].panels) == 2
    assert len(found["curves"].panels) == 10
    assert len(found["attention"].panels) == 6
    assert len(found["folds"].panels) == len(found["scores"].panels) == 10


def test_the_figures_of_a_page_share_no_id_and_use_no_fixed_ink(pictures):
    panels = [panel for picture in pictures[0].values() for panel in picture.panels]
    ids = [name for panel in panels for name in re.findall(r' id="([^"]+)"', panel)]
    assert ids
    assert len(ids) == len(set(ids))
    used = {name for panel in panels for name in re.findall(r'(?:url\(|href=")#([^")]+)', panel)}
    assert used <= set(ids)
    assert not any(colour in panel for panel in panels for colour in drawing.PAGE_COLOURS)


def test_the_same_embeddings_are_drawn_at_the_same_places_in_one_square():
    rng = np.random.default_rng(0)
    clouds = [rng.normal(0, 1, (40, 16)) + 8 * rng.integers(2, size=(40, 1)) for _ in range(3)]
    first, again = planes(clouds), planes(clouds)
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one, other)
        assert np.abs(one).max(0) == pytest.approx([1.0, 1.0]), "the square is filled in both directions"


def test_classes_that_differ_in_the_embedding_lie_apart_on_the_plane():
    rng = np.random.default_rng(0)
    target = np.repeat([0, 1], 30)
    (points,) = planes([rng.normal(0, 1, (60, 16)) + 10 * target[:, None]])
    centres = [points[target == place].mean(0) for place in (0, 1)]
    spread = max(points[target == place].std() for place in (0, 1))
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * spread


@pytest.mark.parametrize(
    "broken",
    [
        {"w2e": np.zeros((3, 8)), "utterance": np.zeros(5, int)},
        {"w2e": np.zeros(5), "utterance": np.zeros(5, int)},
        {"w2e": np.full((400, 8), np.nan), "utterance": np.zeros(400, int)},
        {"w2e": np.zeros((5, 8))},
        {},
    ],
)
def test_embeddings_that_make_no_sense_are_left_out(tmp_path, broken):
    run = write_run(tmp_path, WHO)
    np.savez(run / "1F" / "segments.npz", **broken)
    fold = make_report(tmp_path, Choice()).experiments[0].panel.main.runs[0].folds[0]
    assert utterance_means(fold, "w2e") is None


def test_examples_that_make_no_sense_are_left_out_of_the_page(tmp_path):
    run = write_run(tmp_path / "runs", WHO)
    for fold in run.glob("*/segments.npz"):
        write_examples(fold.parent, [0, 999], np.random.default_rng(0))
    report = make_report(tmp_path / "runs", Choice())
    (found,) = gallery.pictures(report, tmp_path).values()
    assert "attention" not in [picture.id for picture in found]


def test_many_classes_still_look_different():
    looks = [figures.class_look(place) for place in range(64)]
    assert len(set(looks)) == 64


def test_the_alternative_text_of_a_confusion_matrix_names_recalls_and_the_worst_mistake(pictures):
    words = pictures[0]["confusion"].alt
    assert re.search(r"with co-attention: recall angry \d+ %, .* most often \w+ is predicted as \w+, \d+ %", words)


def test_a_model_without_co_attention_is_never_called_one_with_it(tmp_path):
    write_run(tmp_path / "plain", people(each=8), Planted(overrides=("model.co_attention=false",)))
    write_run(tmp_path / "with", people(each=8), Planted())
    for name, said in (("plain", "full"), ("with", "with co-attention")):
        (experiment,) = make_report(tmp_path / name, Choice()).experiments
        assert [title for title, _ in gallery._pair(experiment)] == [said]


def test_folds_of_one_epoch_have_no_learning_curves(tmp_path):
    folder = write_run(tmp_path, people(each=8), Planted())
    (experiment,) = make_report(tmp_path, Choice()).experiments
    assert list(gallery._curves(experiment))
    for file in folder.glob("*/history.jsonl"):
        file.write_text(file.read_text().splitlines()[0] + "\n")
    (experiment,) = make_report(tmp_path, Choice()).experiments
    assert not list(gallery._curves(experiment))


@pytest.mark.parametrize("alike", [False, True])
def test_labels_of_every_panel_are_within_it_wherever_the_axes_of_all_are(alike):
    def panel(highest):
        def draw(axes):
            axes.plot([0, 1], [0, highest])
            axes.set(xlabel="predicted", ylabel="raters", title=f"up to {highest}")

        return drawing.Drawn(draw)

    numbers = [1e6, 2e6] if alike else [1, 1_000_000, 30]
    plan = drawing.Plan("one", "", "", "", [panel(number) for number in numbers], (2.0, 1.8), alike=alike)
    with drawing._style():
        place = drawing._layout(plan)
        for one in plan.panels:
            figure = Figure(figsize=plan.size)
            axes = figure.add_axes(place.bounds)
            one.draw(axes)
            box = axes.get_tightbbox().transformed(figure.transFigure.inverted())
            assert box.x0 >= -0.01 and box.y0 >= -0.01 and box.x1 <= 1.01 and box.y1 <= 1.01
