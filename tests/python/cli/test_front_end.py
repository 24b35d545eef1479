"""The program `gimbal`: help, errors, and the words it hands to gimbal-run and Python (both replaced by scripts that print them)."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]
COMMANDS = [
    "prepare", "inspect", "balance", "profile", "plan", "simulate", "train", "evaluate", "generate", "export", "report", "doctor",
]  # fmt: skip

# Prints its words and the part of the environment that matters as one JSON line.
ECHO = f"""#!{sys.executable}
import json, os, sys
config = None
if "--config" in sys.argv:
    with open(sys.argv[sys.argv.index("--config") + 1], encoding="utf-8") as file:
        config = json.load(file)
names = ("OMP_NUM_THREADS", "RANK", "WORLD_SIZE", "MASTER_ADDR")
line = json.dumps({{"program": sys.argv[0], "words": sys.argv[1:], "config": config,
                   "env": {{name: os.environ.get(name) for name in names}}}})
os.write(1, (line + "\\n").encode())  # in one piece, so that two processes do not mix their lines
"""

RECIPE = """\
model: {path: m}
data: {train: d}
train: {run: r}
prepare:
  out: o
  sources: [{name: a, files: ["a b.jsonl"], weight: 2}]
"""


def gimbal_program() -> Path:
    """The built program: in $GIMBAL_BIN, or beside this Python as `make build` leaves it."""
    path = Path(os.environ.get("GIMBAL_BIN", Path(sys.executable).parent)) / "gimbal"
    assert path.is_file(), f"{path} is missing; run `make build` first"
    return path


def write_program(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


class Installation:
    """A folder with the real gimbal beside a false gimbal-run and a false python."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        self.bin.mkdir()
        shutil.copy(gimbal_program(), self.bin / "gimbal")
        write_program(self.bin / "gimbal-run", ECHO)
        write_program(self.bin / "python", ECHO)
        (folder / "r.yaml").write_text(RECIPE, encoding="utf-8")

    def run(self, *words: str, program: str | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        names = ("OMP_NUM_THREADS", "WORLD_SIZE", "RANK", "GIMBAL_PYTHON")
        clean = {name: value for name, value in os.environ.items() if name not in names}
        return subprocess.run(
            [program or str(self.bin / "gimbal"), *words],
            cwd=self.folder,
            env=clean | env,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def handed(self, *words: str, **env: str) -> dict:
        """What the program that gimbal became was given."""
        result = self.run(*words, **env)
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout)

    def error(self, *words: str, **env: str) -> str:
        """The message of bad input: exit code 2, nothing on stdout."""
        result = self.run(*words, **env)
        assert (result.returncode, result.stdout) == (2, ""), result
        assert result.stderr.startswith("error: ")
        return result.stderr


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    return Installation(tmp_path)


def test_help_lists_the_commands(installation: Installation) -> None:
    for word in ("--help", "-h", "help"):
        result = installation.run(word)
        assert result.returncode == 0 and result.stderr == ""
        for command in COMMANDS:
            assert f"\n  {command} " in result.stdout
        assert "Examples:" in result.stdout


def test_version_is_that_of_the_python_package(installation: Installation) -> None:
    import gimbal

    assert installation.run("--version").stdout == f"gimbal {gimbal.__version__}\n"


def test_no_command_is_bad_input(installation: Installation) -> None:
    result = installation.run()
    assert result.returncode == 2 and result.stdout == "" and "Usage: gimbal" in result.stderr


def test_unknown_command_gets_a_suggestion(installation: Installation) -> None:
    assert installation.error("trian") == "error: unknown command 'trian'; did you mean train?\n"
    assert "see `gimbal --help`" in installation.error("frobnicate")


def test_program_does_not_link_libtorch() -> None:
    libraries = subprocess.run(["ldd", str(gimbal_program())], capture_output=True, text=True, check=True).stdout
    assert "libyaml-cpp" in libraries
    assert "libtorch" not in libraries and "libc10" not in libraries


@pytest.mark.parametrize("command", ["train", "evaluate", "export", "doctor"])
def test_commands_have_help_with_examples(installation: Installation, command: str) -> None:
    for word in ("--help", "-h"):
        result = installation.run(command, word)
        assert result.returncode == 0 and result.stderr == ""
        assert "Example" in result.stdout and f"gimbal {command}" in result.stdout


def test_train_help_lists_every_option(installation: Installation) -> None:
    golden = (REPOSITORY / "tests/golden/options.txt").read_text(encoding="utf-8")
    assert golden.strip() in installation.run("train", "--help").stdout


# Commands carried out by Python


@pytest.mark.parametrize("command", ["inspect", "report", "generate"])
def test_python_commands_get_their_words_unchanged(installation: Installation, command: str) -> None:
    words = ["--help", "--out", "x y", "--", "-z", "a=b"]
    handed = installation.handed(command, *words)
    assert handed["program"] == str(installation.bin / "python")
    assert handed["words"] == ["-m", "gimbal", command, *words]


def test_prepare_with_options_passes_them_on(installation: Installation) -> None:
    words = ["--model", "m", "--data", "a=x.jsonl", "y.jsonl", "--out", "o"]
    assert installation.handed("prepare", *words)["words"] == ["-m", "gimbal", "prepare", *words]


def test_prepare_with_a_recipe_passes_the_resolved_section(installation: Installation) -> None:
    handed = installation.handed("prepare", "r.yaml", "prepare.max_tokens=99", "--overwrite", "model.path=n p")
    assert handed["words"][:4] == ["-m", "gimbal", "prepare", "--config"]
    assert handed["words"][5:] == ["--overwrite"]
    assert handed["config"] == {
        "model": "n p",
        "out": "o",
        "sources": [{"name": "a", "files": ["a b.jsonl"], "weight": 2.0, "media_root": ""}],
        "max_tokens": 99,
        "workers": 0,
        "strict": False,
    }


def test_prepare_config_is_what_the_python_side_reads(installation: Installation) -> None:
    from gimbal.prepare.config import config_from_json

    config = installation.handed("prepare", "r.yaml")["config"]
    path = installation.folder / "config.json"
    path.write_text(json.dumps(config), encoding="utf-8")
    read = config_from_json(str(path))
    assert (read.model, read.out, read.workers, read.strict) == ("m", "o", 0, False)
    assert (read.sources[0].name, read.sources[0].files, read.sources[0].weight) == ("a", ["a b.jsonl"], 2.0)
    assert read.sources[0].media_root is None


def test_prepare_with_a_recipe_needs_sources(installation: Installation) -> None:
    message = installation.error("prepare", "r.yaml", "prepare.sources=[]", "prepare.out=")
    assert "prepare.sources: is needed" in message and "prepare.out: is needed" in message


def test_prepare_help_shows_both_forms(installation: Installation) -> None:
    result = installation.run("prepare", "--help")
    assert result.stdout.startswith("Usage: gimbal prepare RECIPE.yaml")
    assert json.loads(result.stdout.splitlines()[-1])["words"] == ["-m", "gimbal", "prepare", "--help"]


def test_gimbal_python_replaces_the_neighbour(installation: Installation) -> None:
    other = installation.folder / "other"
    write_program(other, ECHO)
    assert installation.handed("report", "r", GIMBAL_PYTHON=str(other))["program"] == str(other)
    message = installation.error("report", "r", GIMBAL_PYTHON="/nowhere/python")
    assert "GIMBAL_PYTHON: '/nowhere/python' is no program" in message


def test_neighbours_are_found_through_a_link(installation: Installation) -> None:
    """The build folder may hold the program and .venv/bin a link to it, with Python beside the link."""
    build = installation.folder / "build"
    build.mkdir()
    shutil.move(installation.bin / "gimbal", build / "gimbal")
    (installation.bin / "gimbal").symlink_to(build / "gimbal")
    assert installation.handed("report", "r")["program"] == str(installation.bin / "python")
    path = f"{installation.bin}:{os.environ['PATH']}"
    found = subprocess.run(
        ["gimbal", "report", "r"], env={"PATH": path}, executable="gimbal", capture_output=True, text=True, check=True
    )
    assert json.loads(found.stdout)["program"] == str(installation.bin / "python")


def test_missing_neighbours_are_named(installation: Installation) -> None:
    (installation.bin / "python").unlink()
    (installation.bin / "gimbal-run").unlink()
    assert f"{installation.bin}/python" in installation.error("inspect", "d")
    assert "gimbal-run is not beside this program; run `make build`" in installation.error("doctor")


def test_a_neighbour_that_cannot_start_is_named(installation: Installation) -> None:
    write_program(installation.bin / "gimbal-run", "#!/nowhere/interpreter\n")
    assert "cannot start" in installation.error("doctor")


# Commands carried out by gimbal-run


def test_train_hands_over_recipe_and_overrides(installation: Installation) -> None:
    words = ["r.yaml", "train.seed=3", "model.freeze=[vision.*]", "optimizer.min_lr_ratio=0"]
    handed = installation.handed("train", *words)
    assert handed["program"] == str(installation.bin / "gimbal-run")
    assert handed["words"] == ["train", *words]
    assert handed["env"]["OMP_NUM_THREADS"] is None


def test_train_reports_all_problems_before_it_starts_anything(installation: Installation) -> None:
    (installation.folder / "r.yaml").write_text("train: {lr: 1}\nlog: {every_steps: 0}\n", encoding="utf-8")
    message = installation.error("train", "r.yaml", "data.workers=x", "--nproc", "2")
    assert message == (
        "error: the recipe has 6 problems:\n"
        "  r.yaml:1:9: train.lr: unknown key; did you mean optimizer.lr?\n"
        "  command line: data.workers: expects a whole number, not 'x'\n"
        "  r.yaml:2:20: log.every_steps: is 0; must be at least 1\n"
        "  r.yaml: model.path: is needed and has no value\n"
        "  r.yaml: data.train: is needed and has no value\n"
        "  r.yaml:1:8: train.run: is needed and has no value\n"
    )


def test_train_names_bad_words(installation: Installation) -> None:
    assert "RECIPE is required" in installation.error("train")
    for bad in ("0", "two", "-1", "1.5", "5000"):
        message = f"--nproc: found '{bad}', expected a whole number from 1 to 1024\nSee `gimbal train --help`."
        assert message in installation.error("train", "r.yaml", "--nproc", bad)
    assert "--frob" in installation.error("train", "r.yaml", "--frob")
    assert "See `gimbal train --help`" in installation.error("train", "r.yaml", "--frob")
    assert "cannot read" in installation.error("train", "absent.yaml")


def test_nproc_inside_a_launcher_is_refused(installation: Installation) -> None:
    message = installation.error("train", "r.yaml", "--nproc", "2", WORLD_SIZE="4")
    assert "--nproc 2 inside a launcher (WORLD_SIZE=4)" in message


def test_nproc_that_the_mesh_does_not_make_is_refused(installation: Installation) -> None:
    message = installation.error("train", "r.yaml", "--nproc", "2", "parallel.tp=4")
    assert "tp 4 is 4, which does not divide the 2 processes of this run. Start 4 (--nproc 4) or a multiple" in message
    # A plan brings its own mesh, and without --nproc a launcher may have started more.
    assert installation.handed("train", "r.yaml", "parallel.tp=4")["words"] == ["train", "r.yaml", "parallel.tp=4"]
    words = ("train", "r.yaml", "parallel.tp=4", "train.plan=p.json")
    assert installation.handed(*words, "--nproc", "2")["words"][:2] == ["-m", "gimbal.launch"]


def test_nproc_starts_that_many_processes(installation: Installation) -> None:
    result = installation.run("train", "r.yaml", "train.seed=3", "--nproc", "2", GIMBAL_PYTHON=sys.executable)
    assert result.returncode == 0, result.stderr
    ranks = [json.loads(line) for line in result.stdout.splitlines()]
    assert sorted(rank["env"]["RANK"] for rank in ranks) == ["0", "1"]
    for rank in ranks:
        assert rank["words"] == ["train", "r.yaml", "train.seed=3"]
        assert rank["env"]["WORLD_SIZE"] == "2"
        assert rank["env"]["OMP_NUM_THREADS"] == "1"
        assert rank["env"]["MASTER_ADDR"] == "127.0.0.1"
    assert result.stderr == ""


@pytest.mark.parametrize(("ending", "code", "message"), [("exit 2", 2, ""), ("kill -KILL $$", 137, "was ended by SIGKILL")])
def test_nproc_ends_like_the_process_that_failed(installation: Installation, ending: str, code: int, message: str) -> None:
    write_program(installation.bin / "gimbal-run", f'#!/bin/sh\n[ "$RANK" = 1 ] && {ending}\nexec sleep 60\n')
    result = installation.run("train", "r.yaml", "--nproc", "2", GIMBAL_PYTHON=sys.executable)
    assert result.returncode == code
    assert message in result.stderr and "Traceback" not in result.stderr


# Fails on rank 1 of the first `failures` attempts.
FAILING = """#!/bin/sh
echo $TORCHELASTIC_RESTART_COUNT >> attempts_of_$RANK
while ! grep -qsx "$TORCHELASTIC_RESTART_COUNT" attempts_of_0; do sleep 0.05; done
[ "$RANK" = 1 ] && [ "$TORCHELASTIC_RESTART_COUNT" -lt {failures} ] && exit 3
[ "$TORCHELASTIC_RESTART_COUNT" -lt {failures} ] && exec sleep 60
exit 0
"""


@pytest.mark.parametrize(("failures", "code", "attempts"), [(1, 0, "0 1"), (9, 3, "0 1 2")])
def test_a_job_that_fails_is_started_again(installation: Installation, failures: int, code: int, attempts: str) -> None:
    write_program(installation.bin / "gimbal-run", FAILING.format(failures=failures))
    result = installation.run("train", "r.yaml", "--nproc", "2", "--max-restarts", "2", GIMBAL_PYTHON=sys.executable)
    assert (result.returncode, result.stdout, result.stderr) == (code, "", "")
    for rank in (0, 1):
        assert (installation.folder / f"attempts_of_{rank}").read_text().split() == attempts.split()


def test_one_process_can_be_restarted(installation: Installation) -> None:
    write_program(installation.bin / "gimbal-run", '#!/bin/sh\n[ "$TORCHELASTIC_RESTART_COUNT" = 1 ] || exit 3\n')
    result = installation.run("train", "r.yaml", "--nproc", "1", "--max-restarts", "1", GIMBAL_PYTHON=sys.executable)
    assert (result.returncode, result.stderr) == (0, "")


def test_max_restarts_names_what_it_needs(installation: Installation) -> None:
    assert "--max-restarts requires --nproc" in installation.error("train", "r.yaml", "--max-restarts", "1")
    assert "--max-restarts" in installation.error("train", "r.yaml", "--nproc", "2", "--max-restarts", "-1")


def test_max_restarts_needs_runs_that_go_on(installation: Installation) -> None:
    words = ["train", "r.yaml", "--nproc", "2", "--max-restarts", "1"]
    assert "--max-restarts needs train.resume=true" in installation.error(*words, "train.resume=false")
    # Also where a single stage starts afresh.
    stages = "stages: [{name: a}, {name: b, train: {resume: false}}]\n"
    (installation.folder / "r.yaml").write_text(RECIPE + stages, encoding="utf-8")
    assert "--max-restarts needs train.resume=true" in installation.error(*words)
    # Without restarts it may.
    assert installation.handed("train", "r.yaml")["words"] == ["train", "r.yaml"]


def test_max_restarts_inside_a_launcher_is_refused(installation: Installation) -> None:
    for count in ("1", "2"):
        message = installation.error("train", "r.yaml", "--nproc", count, "--max-restarts", "1", WORLD_SIZE="4")
        assert f"--nproc {count} inside a launcher (WORLD_SIZE=4)" in message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_nproc_passes_signals_on(installation: Installation, number: int) -> None:
    started = installation.folder / "started"
    # Python, not sh: a shell would have to sleep in a child, and a signal may reach that child between fork and exec.
    script = (
        f"#!{sys.executable}\nimport os, signal, sys, time\n"
        "def save(number, frame):\n    os.write(1, b'saved\\n')\n"
        "    open(os.environ['GIMBAL_LAUNCH_NOTES'] + f\"/{os.getpid()}.note\", 'w').write(f'stopped {number}')\n    os._exit(0)\n"
        f"signal.signal({int(number)}, save)\nopen({str(started)!r}, 'a').write(os.environ['RANK'] + '\\n')\n"
        "while True:\n    time.sleep(1)\n"
    )
    write_program(installation.bin / "gimbal-run", script)
    words = [str(installation.bin / "gimbal"), "train", "r.yaml", "--nproc", "2", "--max-restarts", "1"]
    environment = os.environ | {"GIMBAL_PYTHON": sys.executable}
    with subprocess.Popen(
        words, cwd=installation.folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while not (started.exists() and len(started.read_text().split()) == 2):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        output, errors = process.communicate(timeout=60)
    # No failure: nothing is started again.
    assert process.returncode == 128 + number
    assert output.split() == ["saved", "saved"]
    assert "Traceback" not in errors


def wait_until_held(process: subprocess.Popen[str], number: int) -> None:
    """Until the process blocks that signal or handles it."""
    deadline = time.monotonic() + 60
    while process.poll() is None:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines())
        if (int(status["SigBlk"], 16) | int(status["SigCgt"], 16)) >> (number - 1) & 1:
            return
        assert time.monotonic() < deadline
        time.sleep(0.001)


# From the first moments of `gimbal` (and of Python, once it has taken over) past torch's import to the ranks' own start.
@pytest.mark.parametrize(("taken", "delay"), [(False, 0.0), (False, 0.05), (True, 0.0), (True, 0.15), (True, 0.8), (True, 2.5)])
def test_a_ctrl_c_while_a_job_starts_ends_it_with_one_line(installation: Installation, taken: bool, delay: float) -> None:
    write_program(installation.bin / "gimbal-run", "#!/bin/sh\nexec sleep 60\n")
    (installation.folder / "tmp").mkdir()
    environment = os.environ | {"GIMBAL_PYTHON": sys.executable, "TMPDIR": str(installation.folder / "tmp")}
    words = [str(installation.bin / "gimbal"), "train", "r.yaml", "--nproc", "2", "--max-restarts", "3"]
    with subprocess.Popen(words, cwd=installation.folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        if taken:
            wait_until_held(process, signal.SIGINT)
        time.sleep(delay)
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1]
    # `gimbal` itself has nothing to say yet.
    ends = {(130, "warning: stopped by SIGINT\n")} | (set() if taken else {(-signal.SIGINT, "")})
    assert (process.returncode, errors) in ends
    assert os.listdir(installation.folder / "tmp") == []


def test_evaluate_hands_over_its_options(installation: Installation) -> None:
    for folder, file in (("m", "config.json"), ("d", "manifest.json")):
        (installation.folder / folder).mkdir()
        (installation.folder / folder / file).write_text("{}", encoding="utf-8")
    words = ["--model", "m", "--data", "d", "--json", "o.json", "--predictions", "p.jsonl", "evaluate.generate=false"]
    assert installation.handed("evaluate", *words)["words"] == ["evaluate", *words]
    assert "evaluate.generte" in installation.error("evaluate", "--model", "m", "--data", "d", "evaluate.generte=false")


def test_evaluate_names_folders_that_are_not_what_they_should_be(installation: Installation) -> None:
    (installation.folder / "d").mkdir()
    message = installation.error("evaluate", "--model", "absent", "--data", "d")
    assert "--model: 'absent' is no folder" in message
    message = installation.error("evaluate", "--model", "d", "--data", "d")
    assert "--model: 'd' holds no config.json" in message
    (installation.folder / "d" / "config.json").write_text("{}", encoding="utf-8")
    message = installation.error("evaluate", "--model", "d", "--data", "d")
    assert "--data: 'd' holds no manifest.json; it must be a finished dataset folder" in message
    assert "--data is required" in installation.error("evaluate", "--model", "d")


def test_export_and_doctor_hand_over(installation: Installation) -> None:
    words = ["export", str(installation.folder), "--out", "x"]
    assert installation.handed(*words)["words"] == words
    chosen = [*words, "--checkpoint", "step-00000100"]
    assert installation.handed(*chosen)["words"] == chosen
    assert "'absent' is no folder" in installation.error("export", "absent", "--out", "x")
    assert installation.handed("doctor")["words"] == ["doctor"]
    assert installation.handed("doctor", "--json")["words"] == ["doctor", "--json"]
