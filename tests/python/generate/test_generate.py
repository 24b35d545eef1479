import io
import json

import pytest
from gimbal import UserError
from gimbal.generate.main import main
from gimbal.generate.programs import find_program, model_folder
from PIL import Image


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "scan.png"
    Image.new("RGB", (20, 20), "white").save(path)
    return path


def test_answer_comes_to_stdout_and_options_reach_the_program(model, program, picture, capsys):
    log = program("It is seven — 七.")
    code = main(["--model", str(model), "--prompt", "Which digit is this?", "--image", str(picture), "--max-new-tokens", "9",
                 "--temperature", "0.5", "--top-p", "0.9", "--top-k", "4", "--seed", "3"])
    assert code == 0 and capsys.readouterr().out == "It is seven — 七.\n"
    seen = json.loads(log.read_text())
    assert seen["words"][:3] == ["generate", "--model", str(model)]
    assert seen["words"][5:] == ["--max-new-tokens", "9", "--temperature", "0.5", "--top-p", "0.9", "--top-k", "4", "--seed", "3"]
    assert seen["text"] == (
        "<|im_start|>user\n<img>" + "<IMG_CONTEXT>" * 4 + "</img>\nWhich digit is this?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert seen["spans"] == [] and seen["media"] == 1


def test_prompt_is_what_transformers_makes_of_it(model, program):
    from transformers import AutoTokenizer

    log = program("x")
    main(["--model", str(model), "--prompt", "Which digit is this?"])
    tokenizer = AutoTokenizer.from_pretrained(model)
    expected = tokenizer.apply_chat_template([{"role": "user", "content": "Which digit is this?"}], add_generation_prompt=True,
                                             tokenize=False)
    assert json.loads(log.read_text())["tokens"] == tokenizer(expected, add_special_tokens=False)["input_ids"]


def test_json_has_text_tokens_and_reason(model, program, capsys):
    log = program("seven")
    main(["--model", str(model), "--prompt", "Which?", "--json"])
    result = json.loads(capsys.readouterr().out)
    assert result["text"] == "seven" and result["reason"] == "eos" and result["tokens"]
    assert result["prompt_tokens"] == len(json.loads(log.read_text())["tokens"])


def test_messages_with_earlier_turns_and_pictures_beside_the_file(model, program, picture, tmp_path, capsys):
    log = program("no")
    chat = tmp_path / "chat.json"
    chat.write_text(json.dumps({"images": ["scan.png"], "messages": [
        {"role": "user", "content": "<image>\nWhich digit is this?"}, {"role": "assistant", "content": "It is seven."},
        {"role": "user", "content": "Are you sure?"}]}))
    assert main(["--model", str(model), "--messages", str(chat)]) == 0
    seen = json.loads(log.read_text())
    assert "It is seven.<|im_end|>" in seen["text"] and seen["text"].endswith("Are you sure?<|im_end|>\n<|im_start|>assistant\n")
    assert seen["media"] == 1


def test_image_mark_says_where_the_picture_goes(model, program, picture):
    log = program("x")
    main(["--model", str(model), "--prompt", "Look: <image> What is it?", "--image", str(picture)])
    assert json.loads(log.read_text())["text"].startswith("<|im_start|>user\nLook: <img>")


def test_prompt_from_stdin(model, program, monkeypatch):
    log = program("x")
    monkeypatch.setattr("sys.stdin", io.StringIO("From a pipe?"))
    main(["--model", str(model), "--prompt", "-"])
    assert "From a pipe?" in json.loads(log.read_text())["text"]


def test_exit_code_of_the_program_is_kept(model, program, capsys):
    program("x", code=3)
    assert main(["--model", str(model), "--prompt", "x", "--json"]) == 3
    assert capsys.readouterr().out == ""


def test_run_folders_stand_for_their_exported_model(tmp_path):
    for name in ("one/hf", "many/a/hf", "many/b/hf"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.json").write_text("{}")
    (tmp_path / "many/stages.json").write_text('["a", "b", "c"]')
    assert model_folder(tmp_path / "one") == tmp_path / "one/hf"
    assert model_folder(tmp_path / "one/hf") == tmp_path / "one/hf"
    assert model_folder(tmp_path / "many") == tmp_path / "many/b/hf"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "{model}"], "either --prompt TEXT or --messages FILE"),
        (["--model", "{model}", "--prompt", "x", "--messages", "y"], "either --prompt TEXT or --messages FILE"),
        (["--model", "{model}", "--messages", "y", "--image", "z"], "--image goes with --prompt"),
        (["--model", "{model}", "--prompt", "x", "--max-new-tokens", "0"], "at least 1"),
        (["--model", "{model}", "--prompt", "x", "--temperature", "-1"], "not be negative"),
        (["--model", "{model}", "--prompt", "x", "--top-p", "0"], "above 0 and at most 1"),
        (["--model", "{model}", "--prompt", "x", "--top-k", "-1"], "not be negative"),
        (["--prompt", "x"], "--model"),
        (["--model", "{tmp}/absent", "--prompt", "x"], "no such folder"),
        (["--model", "{tmp}", "--prompt", "x"], "neither a model folder"),
        (["--model", "{model}", "--prompt", "x", "--image", "{tmp}/absent.png"], "no such file"),
        (["--model", "{model}", "--prompt", "x <image> y"], "the prompt can't be used: 1 image placeholders, but 0 images"),
        (["--model", "{model}", "--messages", "{tmp}/absent.json"], "can't be read"),
        (["--model", "{model}", "--messages", "{tmp}/broken.json"], "not valid JSON"),
        (["--model", "{model}", "--messages", "{tmp}/empty.json"], "expected a list of messages"),
        (["--model", "{model}", "--messages", "{tmp}/ends.json"], "the last message is the assistant's"),
    ],
)
def test_bad_input(model, program, tmp_path, arguments, message):
    program("x")
    (tmp_path / "broken.json").write_text("[")
    (tmp_path / "empty.json").write_text("[]")
    (tmp_path / "ends.json").write_text('[{"role": "assistant", "content": "x"}]')
    with pytest.raises(UserError, match=message):
        main([argument.format(model=model, tmp=tmp_path) for argument in arguments])


def test_missing_program_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("GIMBAL_BIN", str(tmp_path))
    with pytest.raises(UserError, match="gimbal-run was not found in .*make build"):
        find_program("gimbal-run")


def test_broken_stage_list_is_named(tmp_path):
    (tmp_path / "stages.json").write_text("[")
    with pytest.raises(UserError, match="stages.json: not valid JSON"):
        model_folder(tmp_path)
    # Who has a model needs no list.
    (tmp_path / "hf").mkdir()
    for folder in (tmp_path / "hf", tmp_path):
        (folder / "config.json").write_text("{}")
        assert model_folder(tmp_path) == folder
