import datetime
import json
import re
import shutil
from html.parser import HTMLParser

import pytest
import synthetic
from gimbal import UserError
from gimbal.report import text
from gimbal.report.main import main
from gimbal.report.page import render
from gimbal.report.runs import read_run
from gimbal.report.samples import choose, make_cards


class Outline(HTMLParser):
    """Headings, links to other places, and whether every element is closed."""

    VOID = {"meta", "link", "img", "br"}

    def __init__(self):
        super().__init__()
        self.open, self.headings, self.outside, self.images = [], [], [], []

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        place = attributes.get("src") or attributes.get("href")
        if place and not place.startswith("data:"):
            self.outside.append(place)
        if tag == "img":
            self.images.append(place)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, (tag, self.open)
        self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] in ("h1", "h2", "h3"):
            self.headings.append(data.strip())


def outline(page):
    result = Outline()
    # plotly's own script holds texts that look like tags.
    result.feed(re.sub(r"<script>.*?</script>", "", page, flags=re.S))
    assert result.open == []
    return result


def figures(page):
    return json.loads(re.search(r'id="figures">(.*?)</script>', page, re.S).group(1).replace("<\\/", "</"))


def test_page_of_a_finished_run(run):
    page = render(read_run(run), now=datetime.datetime(2026, 1, 2, 3, 4))
    seen = outline(page)
    assert seen.outside == []
    assert seen.headings == [
        "made", "Training", "Loss per loss token", "Learning rate", "Gradient norm", "Speed", "Text tokens per second",
        "Images per second", "Model FLOP per second", "Share of this machine's measured peak", "Balance", "Idle share of each rank",
        "Idle share, mean over the ranks", "Where the time goes", "Seconds of a step", "Skipped steps (1)", "Held-out answers",
        "Summary", "Before the first step", "At the end", "Evaluation",
    ]  # fmt: skip
    assert set(figures(page)) == {"loss", "lr", "norm", "tokens_per_second", "images_per_second", "flops_per_second", "peak_share",
                                  "ranks", "waste", "time"}
    assert "finished</span>" in page and "2026-01-02 03:04" in page
    assert "made.jsonl:3, made.jsonl:9" in page and "loss nan, gradient norm inf" in page
    assert all(image.startswith("data:image/") for image in seen.images) and seen.images


def test_what_memory_figures_count_is_said(run):
    plain = render(read_run(run))
    assert "fit · needed counts" not in plain and "peak resident:" not in plain  # a log without these figures
    append(run, {"kind": "summary", "fit": {"fits": True, "needed_bytes": 2**30}})
    append(run, {"kind": "prediction", "activation_peak_bytes": {"measured": 1, "predicted": 1}})
    (run / "summary.json").write_text(json.dumps({"steps": 30, "peak_resident_bytes": 3 * 2**30}))
    page = render(read_run(run))
    outline(page)
    for title, hint, row in (
        ("Before the first step", "fit · needed counts tensors", "<th>fit · needed</th><td>1 GiB</td>"),
        ("At the end", "peak resident: what the system counted", "<th>peak resident</th><td>3 GiB</td>"),
        ("Predicted and measured", "Bytes are those of tensors", "<th>activation peak</th>"),
    ):
        card = page[page.index(f"<h3>{title}</h3>"):].split("</table>")[0]
        assert hint in card and row in card, title


def test_figures_hold_the_numbers_of_the_run(run):
    loss = figures(render(read_run(run)))["loss"]["data"][0]
    recorded = read_run(run).stages[0].metrics.column("loss")
    assert loss["x"] == list(range(1, 31))
    assert loss["y"] == [float(f"{value:.6g}") for value in recorded]


def test_run_killed_in_mid_line_is_reported(tmp_path, dataset, model):
    folder = synthetic.make_run(tmp_path / "killed", dataset, model, steps=20, finished=False)
    content = (folder / "metrics.jsonl").read_bytes()
    (folder / "metrics.jsonl").write_bytes(content[:-40])
    page = render(read_run(folder))
    outline(page)
    assert "not finished</span>" in page and "1 unreadable line(s) left out (line 22)" in page
    assert "Held-out answers" not in outline(page).headings


def test_run_without_any_step_is_reported(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"kind": "summary", "parameters": 12}\n')
    page = render(read_run(tmp_path))
    outline(page)
    assert "No training step was logged yet." in page and figures(page) == {}


def test_stages_are_shown_one_after_another(tmp_path, dataset, model):
    for name in ("align", "tune"):
        synthetic.make_run(tmp_path / name, dataset, model, steps=10, finished=name == "align")
    (tmp_path / "stages.json").write_text('["align", "tune", "last"]')
    run = read_run(tmp_path)
    page = render(run)
    outline(page)
    assert [stage.step_offset for stage in run.stages] == [0, 10]
    assert "stage 2 of 3 (tune), step 10" in page and "Held-out answers (align)" in page
    assert "Summary of stage align" in page and "Summary of stage tune" in page


def test_text_from_the_data_is_escaped(run):
    (run / "recipe.yaml").write_text("name: <script>alert(1)</script>\n")
    row = json.loads((run / "eval.json").read_text()) | {"note": "</script><b>x"}
    (run / "eval.json").write_text(json.dumps(row))
    page = render(read_run(run))
    assert "<script>alert(1)" not in page and "</script><b>x" not in page


def test_cards_show_question_answer_and_pictures(run, dataset):
    cards = make_cards(read_run(run).stages[0]).cards
    card = next(card for card in cards if card.sample == 1 and card.earlier)
    assert [part.text for part in card.question if part.kind == "text"] == ["Which digit is picture two?"]
    assert card.reference.startswith("It is ") and card.predicted == card.reference and card.match
    assert any(part.kind == "image" and part.image.startswith("data:image/") for part in card.question)
    assert [part.role for part in card.earlier][-1] == "assistant"
    wrong = next(card for card in cards if not card.match)
    assert wrong.predicted != wrong.reference
    # 1.5 answers a sample, each with 1 to 3 pictures, none lost.
    assert all(part.image for card in cards for part in card.question + card.earlier if part.kind == "image")


def test_missing_pictures_and_data_are_said(run, dataset, tmp_path, model):
    copy = tmp_path / "copy"
    shutil.copytree(dataset, copy)
    for picture in (copy / "pictures").iterdir():
        picture.unlink()
    manifest = json.loads((copy / "manifest.json").read_text()) | {"media_root": str(copy)}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    evaluation = json.loads((run / "eval.json").read_text())
    (run / "eval.json").write_text(json.dumps(evaluation | {"dataset": str(copy)}))
    assert "picture not found" in render(read_run(run))
    (run / "eval.json").write_text(json.dumps(evaluation | {"dataset": str(tmp_path / "gone")}))
    assert "not a (finished) dataset folder" in render(read_run(run))
    (run / "eval.json").unlink()
    assert "does not name the dataset" in render(read_run(run))


def test_choice_of_samples_takes_wrong_ones_first_and_spreads():
    rows = [{"sample": index, "match": index % 10 != 0} for index in range(1000)]
    chosen = choose(rows, 60)
    assert [row["match"] for row in chosen] == [False] * 30 + [True] * 30
    assert chosen[0]["sample"] == 0 and chosen[29]["sample"] > 900
    assert len(choose(rows[:7], 60)) == 7
    assert sum(not row["match"] for row in choose([{"sample": 0, "match": False}] * 50, 40)) == 40


def test_numbers_as_people_read_them():
    assert text.value("exact_match", 0.98611) == "98.6 %"
    assert text.value("memory_bytes.total", 734003200.0) == "700 MiB"
    assert text.value("held_bytes", 1010 * 2.0**20) == "1010 MiB"
    assert text.size(1023.4 * 2.0**20) == "1023 MiB" and text.size(1023.6 * 2.0**20) == "1 GiB"
    assert text.size(1023) == "1023 B" and text.size(1023.9) == "1 KiB" and text.size(2000 * 2.0**40) == "2000 TiB"
    assert text.value("train_seconds", 132.4) == "2 min 12 s"
    assert text.value("tokens_per_second", 15512.0) == "15.5 k/s"
    assert text.value("parameters", 1240000) == "1.24 M"
    assert text.value("lr", 0.0015) == "0.0015"
    assert text.value("loss", None) == "–"
    assert text.flatten({"a": {"b_bytes": 1, "c": [1, 2]}, "d": True}) == [("a.b_bytes", 1), ("a.c", "1, 2"), ("d", True)]


def test_command_writes_the_page_and_names_it(run, capsys):
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.strip() == str(run / "report.html")
    assert (run / "report.html").stat().st_size > 4_000_000
    assert main([str(run), "--out", str(run / "other.html"), "--json", "--samples", "0"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == {"report": str(run / "other.html"), "bytes": (run / "other.html").stat().st_size, "finished": True}
    assert "Held-out answers" not in (run / "other.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/absent"], "no such run folder"),
        (["{tmp}"], "not a run folder"),
        (["{run}", "--samples", "-1"], "must not be negative"),
        (["{run}", "--follow"], "only with --tensorboard"),
        (["{run}", "--tensorboard", "{tmp}/tb", "--open"], "writes no page"),
        (["{run}", "--out", "{tmp}/no/such/folder/x.html"], "can't be written"),
        (["{run}", "--tensorboard", "{run}/recipe.yaml/x"], "can't be written"),
    ],
)
def test_bad_input(run, tmp_path, arguments, message):
    filled = [argument.format(tmp=tmp_path, run=run) for argument in arguments]
    with pytest.raises(UserError, match=message):
        main(filled)


@pytest.mark.parametrize("content", ['{"stages": [{"nam": "x"}]}', "[3]", "{"])
def test_bad_stage_list(tmp_path, content):
    (tmp_path / "stages.json").write_text(content)
    with pytest.raises(UserError, match="stages.json"):
        read_run(tmp_path)


def test_broken_parts_are_noted_and_the_rest_is_shown(run):
    (run / "summary.json").write_text("{")
    (run / "eval.json").write_text("[]")
    with (run / "predictions.jsonl").open("a") as file:
        file.write('{"sample": 3')
    notes = " ".join(read_run(run).stages[0].notes)
    assert "summary.json: can't be read" in notes and "eval.json: expected a JSON object" in notes
    assert "predictions.jsonl: 1 unreadable line(s)" in notes


def append(run, *lines):
    with (run / "metrics.jsonl").open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def test_ranks_and_communication_are_tables(run):
    facts = [
        {"rank": rank, "host": f"node{rank}", "coordinates": f"pp {rank}", "blocks": [f"text.{rank} .. text.{rank}"]} for rank in range(2)
    ]
    activations = {"predicted": 2 << 20, "measured": 5 << 19}
    peaks = [{"rank": rank, "total_peak_bytes": (8 + rank) << 20, "activation_peak_bytes": activations} for rank in range(2)]
    for fact in facts:
        fact["state_bytes"] = 3 << 20
    sent = {"axis": "pp", "call": "send", "calls": 120, "bytes": 60 << 20, "wait_seconds": 1.5}
    append(run, {"kind": "summary", "mesh": "pp 2", "rank_facts": facts})
    before = render(read_run(run))
    append(run, {"kind": "prediction", "step": 30, "ranks": peaks})
    append(run, {"kind": "communication", "step": 30, "steps": 30, "mean": [sent], "ranks": [[sent], [sent]]})
    page = render(read_run(run))
    plain = page.replace(" class=num", "")
    assert {"Ranks", "Communication"} <= set(outline(page).headings)
    assert "{" not in re.sub(r"<(script|style).*?</\1>", "", page, flags=re.S) and "records of kind" not in page
    for cells in (
        ["1", "pp 1", "node1", "text.1 .. text.1", "3 MiB", "9 MiB", "2.5 MiB", "2 MiB"],
        ["pp", "send", "120", "60 MiB", "2 MiB", "1.5 s"],
    ):
        assert f"<td>{'</td><td>'.join(cells)}</td>" in plain, cells
    # Until its end a run shows the ranks alone.
    assert "Ranks" in outline(before).headings and "Communication" not in outline(before).headings
    assert "<td>3 MiB</td><td>–</td>" in before.replace(" class=num", "")


def test_a_run_that_has_changed_its_mesh_lists_its_meshes(run):
    def start(mesh, first_step):
        fact = {"host": "node", "coordinates": "here", "blocks": [], "state_bytes": 1}
        facts = [{**fact, "rank": rank} for rank in range(2)]
        return {"kind": "summary", "mesh": mesh, "ranks": 2, "first_step": first_step, "rank_facts": facts}

    record = json.loads((run / "metrics.jsonl").read_text().splitlines()[1])
    sent = {"axis": "pp", "call": "send", "calls": 12, "bytes": 60 << 20, "wait_seconds": 1.5}
    (run / "metrics.jsonl").unlink()
    append(run, start("dp_shard 2", 0), *({**record, "step": step} for step in range(1, 21)))
    append(run, {"kind": "communication", "step": 20, "steps": 20, "mean": [sent]})
    assert "Meshes" not in (before := outline(render(read_run(run)))).headings and "Communication" in before.headings
    append(run, start("pp 2", 20))
    fresh = render(read_run(run)).replace(" class=num", "")
    # The ranks of now have not sent what those before them had.
    assert "<td>pp 2</td><td>2</td><td>none yet</td>" in fresh and "Communication" not in outline(fresh).headings
    append(run, *({**record, "step": step} for step in range(21, 31)), {"kind": "skipped", "step": 31})
    append(run, {"kind": "communication", "step": 31, "steps": 11, "mean": [sent]})
    page = render(read_run(run)).replace(" class=num", "")
    assert "Meshes" in outline(page).headings
    for cells in (["dp_shard 2", "2", "1 to 20"], ["pp 2", "2", "21 to 31"]):
        assert f"<td>{'</td><td>'.join(cells)}</td>" in page, cells
    assert page.count("Of the last mesh only: pp 2.") == 2  # ranks, communication


def test_a_run_of_one_process_has_no_tables_of_ranks(run):
    fact = {"rank": 0, "host": "node0", "coordinates": "", "blocks": ["text.0 .. text.1"], "state_bytes": 1}
    append(run, {"kind": "summary", "rank_facts": [fact]})
    assert not {"Ranks", "Communication"} & set(outline(render(read_run(run))).headings)


@pytest.mark.parametrize("mean", [[1], {"axis": "pp"}, "pp", 7])
def test_communication_of_another_shape_is_left_out(run, mean):
    append(run, {"kind": "communication", "step": 30, "steps": 30, "mean": mean})
    assert "Communication" not in outline(render(read_run(run))).headings


def test_lists_of_objects_are_flattened():
    assert text.flatten({"a": [{"b": 1}, {"b": [2, 3]}]}) == [("a.0.b", 1), ("a.1.b", "2, 3")]


def test_predictions_are_shown_beside_what_was_measured(run):
    line = {
        "kind": "prediction", "step": 9, "activation_peak_bytes": {"predicted": 1048576, "measured": 1572864, "ratio": 1.5},
        "step_seconds": {"predicted": 0.2, "measured": 0.21, "ratio": 1.05},
        "classes": [{"class": "text_layer", "forward": {"predicted": 0.01, "measured": 0.02}, "backward": {"predicted": 0, "measured": 0.1}}],
    }  # fmt: skip
    append(run, line)
    page = render(read_run(run))
    assert "Predicted and measured" in page and "records of kind" not in page
    assert "1.5 MiB, predicted 1 MiB (+50.0 %)" in page
    assert "210 ms, predicted 200 ms (+5.0 %)" in page
    assert "text layer forward" in page and "20 ms, predicted 10 ms (+100.0 %)" in page
    assert "100 ms, predicted 0 ms" in page  # nothing to compare with
