import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# Stands in for gimbal-run: checks the dataset that it is given, then answers with the ids of a text.
PROGRAM = """#!{python}
import json, sys
sys.path.insert(0, {path!r})
from tokenizers import Tokenizer
from gimbal.dataset import Dataset
words = sys.argv[1:]
options = dict(zip(words[1::2], words[2::2]))
sample = Dataset(options["--data"]).sample(0)
tokenizer = Tokenizer.from_file(options["--model"] + "/tokenizer.json")
with open({log!r}, "w") as file:
    json.dump({{"words": words, "tokens": [int(t) for t in sample.tokens], "spans": sample.spans, "media": len(sample.media),
               "text": tokenizer.decode(sample.tokens.tolist(), skip_special_tokens=False)}}, file)
if {code}:
    print("error: made up", file=sys.stderr)
    sys.exit({code})
for token in tokenizer.encode({answer!r}, add_special_tokens=False).ids:
    print(json.dumps({{"sample": 0, "token": token}}), flush=True)
print(json.dumps({{"sample": 0, "done": True, "reason": "eos"}}))
"""


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Path:
    from gimbal.demo.model_folder import make_model_folder

    corpus = ["Which digit is this?", "It is seven.", "user\nassistant\n"] * 3
    return make_model_folder(tmp_path_factory.mktemp("model"), corpus=corpus, vocab_size=320)


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a made-up gimbal-run in place; returns (make, log file)."""
    log = tmp_path / "log.json"

    def make(answer: str, code: int = 0) -> Path:
        folder = tmp_path / "bin"
        folder.mkdir(exist_ok=True)
        package = str(Path(__file__).parents[3] / "python")
        (folder / "gimbal-run").write_text(
            PROGRAM.format(python=sys.executable, path=package, log=str(log), code=code, answer=answer)
        )
        (folder / "gimbal-run").chmod(0o755)
        monkeypatch.setenv("GIMBAL_BIN", str(folder))
        return log

    return make
