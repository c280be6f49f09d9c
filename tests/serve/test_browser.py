"""The page in a real browser: by mouse and by keyboard, and with what would be code if it weren't kept from it.

Without a browser the tests skip; where ``TKRE_REQUIRE_BROWSER`` is set, as in CI, they fail.
"""

# ruff: noqa: E402  (what is imported may not be there)
from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .conftest import HOSTILE, Page

REQUIRED = bool(os.environ.get("TKRE_REQUIRE_BROWSER"))
if not REQUIRED:
    pytest.importorskip("gradio", reason="the page needs Gradio, of the extra [serve]")
    pytest.importorskip("selenium", reason="selenium is not installed: pip install selenium")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = "chromium or chromedriver is not installed: make browser"
pytestmark = pytest.mark.skipif(not REQUIRED and (CHROMIUM is None or DRIVER is None), reason=MISSING)


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    assert CHROMIUM is not None and DRIVER is not None, MISSING
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,1400"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


class Visitor:
    """Somebody with the page open."""

    def __init__(self, driver: Any, url: str) -> None:
        self.driver = driver
        driver.get(url)
        self.until(lambda: self.words())

    def until(self, condition: Callable[[], Any]) -> Any:
        return WebDriverWait(self.driver, 60, ignored_exceptions=[Exception]).until(lambda _: condition())

    def find(self, css: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[Any]:
        found: list[Any] = self.driver.find_elements(By.CSS_SELECTOR, css)
        return found

    def words(self) -> list[Any]:
        return self.all("#picker .tkre-choices button")

    def word(self, text: str) -> Any:
        return next(button for button in self.words() if button.text == text)

    def type(self, css: str, text: str) -> None:
        field = self.find(css)
        field.send_keys(Keys.CONTROL, "a")
        field.send_keys(text or Keys.DELETE)

    def chosen(self, role: str) -> list[str]:
        return [button.text for button in self.all(f"#picker .tkre-choices button.tkre-{role}")]

    def click(self, css: str) -> None:
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", self.find(css))
        self.find(css).click()

    def ranking(self) -> str:
        return "".join(table.text for table in self.all("#ranking table"))

    def tab(self, name: str) -> None:
        next(button for button in self.all("button[role=tab]") if button.text == name).click()

    def was_hacked(self) -> bool:
        return bool(self.driver.execute_script("return typeof hacked !== 'undefined'"))


def test_a_visit(driver: Any, page: Page) -> None:
    visitor = Visitor(driver, page.url)
    # Type a sentence, and choose its entities with the mouse.
    visitor.type("#sentence textarea", "Ada Hull is the capital of Elba .")
    visitor.until(lambda: len(visitor.words()) == 8)
    assert visitor.chosen("head") == [] == visitor.chosen("tail")
    visitor.word("Ada").click()
    visitor.word("Hull").click()
    visitor.find("#picker [data-role=tail]").click()
    visitor.word("Elba").click()
    assert visitor.chosen("head") == ["Ada", "Hull"] and visitor.chosen("tail") == ["Elba"]
    assert visitor.word("Elba").get_attribute("aria-pressed") == "true"
    visitor.click("#predict")
    first = visitor.until(visitor.ranking)
    assert "capital" in first and "none of the above" in first
    assert visitor.find("#words .tkre-head").text.startswith("Ada Hull")
    assert len(visitor.all("#words .tkre-word")) == 4

    # Teach a relation; the ranking changes by itself.
    visitor.type("#relation input", "rules over")
    visitor.type("#description textarea", "who decides in a country")
    visitor.type("#examples textarea", "[E1]Kiel[/E1] is the capital of [E2]Lima[/E2] .")
    visitor.click("#add")
    second = visitor.until(lambda: visitor.ranking() if "rules over" in visitor.ranking() else None)
    assert "who decides in a country" in visitor.find("#relations").text
    assert visitor.find("#examples textarea").get_attribute("value") == ""

    # An example more of the same relation brings the sentence nearer to it.
    visitor.click("#add-sentence")
    third = visitor.until(lambda: visitor.ranking() if visitor.ranking() != second else None)
    assert "rules over" in third

    # Somebody else sees nothing of it.
    driver.switch_to.new_window("window")
    other = Visitor(driver, page.url)
    other.click("#predict")
    assert "rules over" not in other.until(other.ranking) and "rules over" not in other.find("#relations").text
    driver.close()
    driver.switch_to.window(driver.window_handles[0])

    visitor.click("#remove")
    visitor.until(lambda: "rules over" not in visitor.ranking())


def test_the_keyboard_is_enough(driver: Any, page: Page) -> None:
    visitor = Visitor(driver, page.url)
    visitor.type("#sentence textarea", "Ada works for Elba .")
    visitor.until(lambda: len(visitor.words()) == 5)

    def press(key: str) -> None:
        driver.switch_to.active_element.send_keys(key)

    # From the text to the two roles, and on to the first word.
    for _ in range(3):
        press(Keys.TAB)
    assert driver.switch_to.active_element.text == "Ada"
    press("h")
    for _ in range(3):
        press(Keys.ARROW_RIGHT)
    press("t")
    assert visitor.chosen("head") == ["Ada"] and visitor.chosen("tail") == ["Elba"]
    press(Keys.SPACE)  # as a click: Elba becomes the head, and so the tail no more
    assert visitor.chosen("head") == ["Elba"] and visitor.chosen("tail") == []
    press("t")
    press(Keys.ARROW_LEFT)
    press("h")
    assert visitor.chosen("head") == ["for"] and visitor.chosen("tail") == ["Elba"]
    visitor.find("#sentence textarea").send_keys(Keys.SHIFT, Keys.ENTER)
    visitor.until(lambda: visitor.find("#words .tkre-head").text.startswith("for"))


def test_hostile_text_is_shown_and_nothing_more(driver: Any, page: Page) -> None:
    visitor = Visitor(driver, page.url)
    sentence = f"[E1]Kiel[/E1] has {HOSTILE} of [E2]Elba[/E2]"
    visitor.type("#sentence textarea", sentence)
    visitor.until(lambda: any(button.text == "hacked" for button in visitor.words()))
    assert HOSTILE in visitor.find("#picker .tkre-choices").text.replace("\n", "")
    visitor.click("#predict")
    visitor.until(visitor.ranking)
    assert "<script>" in visitor.find("#words").text
    visitor.type("#relation input", HOSTILE)
    visitor.type("#description textarea", HOSTILE)
    visitor.click("#add-sentence")
    visitor.until(lambda: HOSTILE in visitor.ranking())
    assert visitor.find("#relations").text.count("<script>hacked=1</script>") == 2
    # What a message repeats of it.
    visitor.type("#relation input", "<img src=x onerror=hacked=1>")
    visitor.click("#remove")
    visitor.until(lambda: "there is no relation '<img src=x" in visitor.find("body").text)

    visitor.tab("Paragraph")
    visitor.until(lambda: visitor.find("#paragraph textarea").is_displayed())
    visitor.type("#paragraph textarea", f"[Kiel {HOSTILE[:36]}] belongs to [Elba].")
    visitor.click("#draw")
    visitor.until(lambda: visitor.find("#graph").text or visitor.all("#graph img"))

    visitor.tab("Model card")
    visitor.until(lambda: "It says much" in visitor.find("#card").text)
    assert visitor.find("#card strong").text == "much"
    for link in visitor.all("#card a"):
        driver.execute_script("arguments[0].click()", link)
    assert not visitor.all("#card script, #card iframe")
    assert not visitor.was_hacked()
    assert driver.execute_script("hacked = 1; return typeof hacked !== 'undefined'")  # it would have been seen


def test_where_it_is_required_a_browser_that_is_missing_is_a_failure(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "visit", "--color=no", __file__]
    environment = {**os.environ, "PATH": str(tmp_path), "TKRE_REQUIRE_BROWSER": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED and MISSING in done.stdout, done.stdout
