"""The package's metadata, its pinned versions, and README: what they promise holds."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import entry_points
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import tkre_hf

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tkre_hf"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
README = (ROOT / "README.md").read_text()
REQUIREMENTS = [
    Requirement(line)
    for lines in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for line in lines
    if not line.startswith(f"{PROJECT['name']}[")
]
# What the project is worked on with, of which the newest versions alone are used.
TOOLS = {Requirement(line).name for extra in ("dev", "docs") for line in PROJECT["optional-dependencies"][extra]}


def pins(name: str) -> dict[str, Version]:
    """The exact versions of a constraints file."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith("#")]
    requirements = [Requirement(line) for line in lines]
    assert all([spec.operator for spec in r.specifier] == ["=="] for r in requirements), "a line is no exact version"
    found = {canonicalize_name(r.name): Version(next(iter(r.specifier)).version) for r in requirements}
    assert len(found) == len(lines), "a package stands in it twice"
    return found


def test_version_stands_in_pyproject_alone():
    assert tkre_hf.__version__ == PROJECT["version"]
    elsewhere = [
        path.relative_to(ROOT)
        for path in [*PACKAGE.rglob("*.py"), ROOT / "setup.cfg", ROOT / "CITATION.cff", ROOT / "Makefile"]
        if re.search(r"^_*version_*\s*[:=]\s*[\"']?\d", path.read_text(), re.M)
    ]
    assert not elsewhere


def test_what_the_doctor_reads_versions_with_is_declared():
    assert "packaging" in {Requirement(line).name for line in PROJECT["dependencies"]}


def test_no_tool_is_set_in_two_files():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert {section.partition(":")[0].partition("-")[0] for section in setup.sections()} == {"mypy", "coverage"}
    assert set(PYPROJECT["tool"]) == {"pytest", "ruff", "setuptools"}


def test_every_file_of_the_package_is_shipped():
    patterns = PYPROJECT["tool"]["setuptools"]["package-data"]["tkre_hf"]
    shipped = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    data = {p for p in PACKAGE.rglob("*") if p.is_file() and p.suffix != ".py" and "__pycache__" not in p.parts}
    assert data <= shipped
    unused = [pattern for pattern in patterns if not any(PACKAGE.glob(pattern))]
    assert not unused


def test_every_folder_with_modules_is_a_package():
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert not [folder for folder in folders if not (folder / "__init__.py").exists()]


def test_command_line_is_installed_and_resolves():
    (script,) = entry_points(group="console_scripts", name="tkre")
    assert script.value == PROJECT["scripts"]["tkre"]
    assert callable(script.load())


@pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)
def test_pins_keep_within_what_pyproject_allows(requirement):
    name = canonicalize_name(requirement.name)
    newest, oldest = pins("constraints.txt"), pins("constraints-min.txt")
    assert name in newest or name in oldest
    for pinned in (newest, oldest):
        assert name not in pinned or requirement.specifier.contains(pinned[name])


def test_oldest_versions_are_the_lower_bounds():
    oldest = pins("constraints-min.txt")
    for requirement in REQUIREMENTS:
        if requirement.name in TOOLS | {"torch"}:  # torch is installed in the one version the project is tested on
            continue
        (bound,) = [spec.version for spec in requirement.specifier if spec.operator == ">="]
        found = oldest[canonicalize_name(requirement.name)]
        # The first release of ">=4.0" is 4.0.0; of what is bounded by a minor version, any of its fixes will do.
        assert found.release[: len(Version(bound).release)] == Version(bound).release, requirement


def test_torch_is_pinned_alike_everywhere():
    assert pins("constraints.txt")["torch"] == pins("constraints-min.txt")["torch"]


def test_ci_runs_readmes_own_test_command(tmp_path):
    # .ci/run beside a README and a `make` of our own: what does it call?
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci" / "run").write_text((ROOT / ".ci" / "run").read_text())
    (tmp_path / "README.md").write_text(README)
    fake = tmp_path / "bin" / "make"
    fake.parent.mkdir()
    fake.write_text('#!/bin/sh\necho "make $*${TKRE_REQUIRE_BROWSER:+, in a browser too}" >> calls\n')
    fake.chmod(0o755)

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(tmp_path / ".ci" / "run")],
            env={"PATH": f"{fake.parent}:/usr/local/bin:/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )

    done = run()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "calls").read_text().splitlines() == [
        "make browser",
        "make test, in a browser too",
        "make check",
        "make docs",
        "make test-min",
    ]

    (tmp_path / "README.md").write_text(README.replace("## Tests", "## Testing"))
    done = run()
    assert done.returncode != 0
    assert "no command under the heading 'Tests'" in done.stderr

    (tmp_path / "README.md").write_text(README.replace("\nmake test\n", "\nfalse\n"))
    assert run().returncode != 0


APT_GET = ["apt-get update -q", "apt-get install -q -y --no-install-recommends chromium chromium-driver"]


@pytest.mark.parametrize(
    ("programs", "user", "called"),
    [
        (["chromium", "chromedriver", "apt-get"], 0, []),
        (["chromium", "apt-get"], 0, APT_GET),
        (["apt-get", "sudo"], 1000, ["sudo", APT_GET[0], "sudo", APT_GET[1]]),
        (["chromium"], 0, None),
    ],
)
def test_a_browser_is_installed_where_there_is_none(programs, user, called, tmp_path):
    # `make browser` in a system of ours: what does it call?
    make, env = shutil.which("make"), shutil.which("env")
    assert make and env
    (tmp_path / "env").symlink_to(env)
    calls = tmp_path / "calls"
    calls.touch()
    says = {"id": f"echo {user}", "sudo": f'echo sudo >> {calls}; exec "$@"'}
    for name in ["id", *programs]:
        (tmp_path / name).write_text(f"#!/bin/sh\n{says.get(name, f'echo {name} $* >> {calls}')}\n")
        (tmp_path / name).chmod(0o755)
    done = subprocess.run(
        [make, "browser"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode == 0) == (called is not None), done.stderr
    assert calls.read_text().splitlines() == (called or [])
    if called is None:
        assert "There is no apt-get here: install Chromium" in done.stderr


def test_make_targets_that_are_named_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for name in ("README.md", "CONTRIBUTING.md"):
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / name).read_text(), re.M))
        assert named <= targets, name
        assert named


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_paths_and_links_that_are_named_exist(name):
    text = (ROOT / name).read_text()
    named = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    named += re.findall(r"(?<![\w/])((?:recipes|docs|tests|tkre_hf|benchmarks|\.ci)/[\w/.-]*\w/?)", text)
    missing = [path for path in named if not (ROOT / path).exists()]
    assert named and not [path for path in missing if "NAME" not in path]


def test_citation_file_is_well_formed():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors", "license"} <= set(citation)
    assert citation["license"] == PROJECT["license"]


def test_licence_is_apache_2():
    text = (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text
    assert "APPENDIX: How to apply the Apache License to your work." in text
