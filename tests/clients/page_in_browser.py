"""The page of fastkv serve in Chromium: by keyboard alone, what it shows, what it asks for.

usage: page_in_browser.py FASTKV WRITE_TINY_MODEL. Exit code 77 where no Chromium is there and none need be.
"""
import json
import re
import sys
import tempfile
import urllib.request

import browser
import serving
from serving import check

# Long enough that methods drop tokens, with characters that several tokens share.
TEXT = "".join(f"Day {day}: the käse was €{day * 7 % 31}, the 🐟 was old.\n" for day in range(1, 41))
QUESTION = "What was the 🐟?"


def ask_api(url, path, body=None):
    request = urllib.request.Request(url + path, headers={"Authorization": "Bearer " + serving.KEY},
                                     data=json.dumps(body).encode() if body else None)
    with urllib.request.urlopen(request, timeout=120) as response:
        return response.read().decode()


def look(page):
    """The classes of all tokens."""
    return page.run("[...document.querySelectorAll('#shaded span')].map(s => s.className)")


def answered(page, method):
    page.wait("document.getElementById('answer').getAttribute('aria-busy') === 'false'")
    status = page.run("document.getElementById('status').textContent")
    check(status.startswith(f"Answered by {method}"), f"the status: {status}")


# ---- what is tested ----

def key_is_asked_for(page, url):
    page.open(url)
    page.wait("document.getElementById('key-dialog').open")
    page.type("no-key")
    page.press("Enter")
    page.wait("document.getElementById('key-text').textContent.includes('does not know')")
    page.type(serving.KEY)
    page.press("Enter")
    page.wait("document.querySelectorAll('#methods input').length === 7")
    check(page.run("!document.getElementById('key-dialog').open"), "the dialog closes")
    check(page.complaints and all("401" in text for text in page.complaints), f"complaints: {page.complaints}")
    page.complaints.clear()
    check(page.run("localStorage.length + document.cookie.length") == 0, "the key is kept in the tab only")


def what_is_missing_is_said(page):
    page.tab_to("question")
    page.press("Enter")
    check("no text yet" in page.run("document.getElementById('error').textContent"), "an error in words")
    check(page.run("document.activeElement.id") == "text", "the focus goes where something is missing")


def files_are_taken(page, folder):
    with open(folder + "/noise.bin", "wb") as file:
        file.write(bytes(range(256)))
    page.drop(folder + "/noise.bin", 300, 300)
    page.wait("document.getElementById('error').textContent.includes('noise.bin is not a text')")
    with open(folder + "/text.txt", "w", encoding="utf-8") as file:
        file.write(TEXT)
    page.drop(folder + "/text.txt", 300, 300)
    page.wait("document.getElementById('text').value.length > 100")
    check(page.run("document.getElementById('text').value") == TEXT, "the text of a dropped file")
    check(page.run("document.getElementById('error').hidden"), "the error goes")
    page.wait("/^[\\d,]+ tokens, \\d+ % of the context/.test(document.getElementById('size').textContent)")


def question_is_answered_by_keyboard(page):
    page.run("""{ window.seen = []; new MutationObserver(() => seen.push(document.getElementById('answer').textContent))
                  .observe(document.getElementById('answer'), { childList: true }); 0 }""")
    page.tab_to("question")
    page.type(QUESTION)
    page.press("Enter")
    answered(page, "fastkv")
    seen = page.run("seen")
    check(len(set(seen)) > 5, f"the answer streams: {seen}")
    check(page.run("document.getElementById('answer').textContent") == seen[-1] != "", "the answer")


def shading_is_what_the_api_reports(page, url):
    body = {"messages": [{"role": "user", "content": TEXT + "\n\n" + QUESTION}], "max_tokens": 1,
            "fastkv": {"method": "fastkv", "layers": True}}
    report = json.loads(ask_api(url, "v1/chat/completions", body))["fastkv"]
    pieces = page.run("[...document.querySelectorAll('#shaded span')].map(s => s.textContent)")
    check(pieces == report["pieces"], "the tokens")
    check(TEXT in "".join(pieces), "the text, characters of several tokens included")
    layers, seen = report["layers"], []
    page.tab_to("layer")
    for layer in layers:
        page.press("ArrowRight")
        seen.append(look(page))
        kept = {token for head in layer["kept"] for first, last in head for token in range(first, last + 1)}
        check({i for i, name in enumerate(seen[-1]) if re.search("k[1-4]", name)} == kept, "the tokens that are marked")
        check(sum("gone" not in name for name in seen[-1]) == layer["rows"], "the tokens that a layer read")
    check(sum("on" in name.split() for name in seen[0]) == layers[1]["rows"], "the tokens that go on")
    page.press("Home")
    check(look(page) not in seen, "all layers")
    check(page.run("document.getElementById('layer-name').textContent") == "all", "the layer's name")


def methods_are_switched_and_compared(page):
    by_fastkv = page.run("document.getElementById('answer').textContent"), look(page)
    page.run("document.querySelector('#methods :checked').id = 'chosen'")
    page.tab_to("chosen")
    page.press("ArrowRight")
    check(page.run("document.querySelector('#methods :checked').value") == "snapkv", "the next method")
    page.tab_to("rate")
    page.type("0.5")
    page.tab_to("ask")
    page.press(" ")
    answered(page, "snapkv, share 0.5")
    check(look(page) != by_fastkv[1], "another method, another shading")
    page.tab_to("compare")
    page.press("Enter")
    answered(page, "fullkv")
    check(all("k4" in name for name in look(page)), "FullKV keeps everything")
    check(page.run("document.getElementById('compare').disabled"), "FullKV once is enough")
    rows = page.run("[...document.querySelectorAll('#runs tr')].map(r => r.innerText)")
    check([re.match(r"\w+", row).group() for row in rows] == ["fastkv", "snapkv", "fullkv"], f"the rows: {rows}")
    share = float(re.search(r"([\d.]+) %", rows[1]).group(1))
    check(49 <= share <= 51, f"of FullKV's tokens: {rows[1]}")
    page.run("document.querySelector('#methods [value=fullkv]').id = 'chosen-now'")
    page.tab_to("chosen-now")
    page.press("ArrowRight")
    check((page.run("document.getElementById('answer').textContent"), look(page)) == by_fastkv, "the first answer again")


def answer_is_stopped(page):
    page.tab_to("longest")
    page.run("document.activeElement.select()")
    page.type("3000")
    page.tab_to("question")
    page.run("document.activeElement.select()")
    page.type("Another?")
    # while it reads: the tiny model has said all that it has to say before a key from here would arrive
    page.run("""{ new MutationObserver((_, observer) => {
                    observer.disconnect();
                    dispatchEvent(new KeyboardEvent('keydown', { key: 'Escape' }));
                  }).observe(document.getElementById('status'), { childList: true }); 0 }""")
    page.press("Enter")
    page.wait("document.getElementById('answer').getAttribute('aria-busy') === 'false'")
    status = page.run("document.getElementById('status').textContent")
    check(status == "Stopped.", f"the status of a stopped answer: {status}")
    check(page.run("document.querySelectorAll('#runs tr').length") == 3, "a stopped answer has no row")
    check(page.run("document.getElementById('stop').disabled"), "nothing to stop")


CONTRAST = """
(() => {
  const pen = Object.assign(document.createElement('canvas'), { width: 1, height: 1 })
    .getContext('2d', { willReadFrequently: true });
  const light = colours => {
    pen.clearRect(0, 0, 1, 1);
    for (const colour of colours) { pen.fillStyle = colour; pen.fillRect(0, 0, 1, 1); }
    return [0.2126, 0.7152, 0.0722].reduce((sum, weight, i) => {
      const c = pen.getImageData(0, 0, 1, 1).data[i] / 255;
      return sum + weight * (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    }, 0);
  };
  const backgrounds = e => e ? [...backgrounds(e.parentElement), getComputedStyle(e).backgroundColor] : [];
  const low = [];
  for (const element of document.querySelectorAll('body *')) {
    const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    if (!own || !element.checkVisibility() || element.disabled) continue;
    const back = light(backgrounds(element)), front = light([...backgrounds(element), getComputedStyle(element).color]);
    const ratio = (Math.max(back, front) + 0.05) / (Math.min(back, front) + 0.05);
    if (ratio < 4.5) low.push(`${element.tagName} ${element.className} ${element.textContent.slice(0, 30)} ${ratio}`);
  }
  return low;
})()"""


def is_readable(page):
    pages = set()
    for scheme in ("light", "dark"):
        page.colours(scheme)
        pages.add(page.run("getComputedStyle(document.body).backgroundColor"))
        for layer in (-1, 1):
            page.run(f"""{{ const slider = document.getElementById('layer'); slider.value = {layer};
                         slider.dispatchEvent(new Event('input')); 0 }}""")
            low = page.run(CONTRAST)
            check(not low, f"contrast below 4.5 in {scheme} colours: {low[:5]}")
    check(len(pages) == 2, "dark colours")
    unnamed = page.run("""[...document.querySelectorAll('input, textarea, button, canvas')].filter(e => !e.hidden &&
        !(e.labels?.length || e.textContent.trim() || e.getAttribute('aria-label'))).map(e => e.id)""")
    check(not unnamed, f"controls without a name: {unnamed}")
    page.size(360, 740)
    check(page.run("document.documentElement.scrollWidth") <= 360, "a narrow screen needs no scrolling sideways")


def use(page, url, folder):
    page.size(1280, 900)
    key_is_asked_for(page, url)
    what_is_missing_is_said(page)
    files_are_taken(page, folder)
    question_is_answered_by_keyboard(page)
    shading_is_what_the_api_reports(page, url)
    methods_are_switched_and_compared(page)
    answer_is_stopped(page)
    is_readable(page)
    check(not page.complaints, f"the console complains: {page.complaints}")
    strangers = [request for request in page.requests if not request.startswith(url)]
    check(len(page.requests) > 10 and not strangers, f"requests to others: {strangers}")


def main(fastkv, write_tiny_model):
    program = browser.find()
    if not program:
        serving.give_up_without("Chromium")
    with tempfile.TemporaryDirectory() as folder:
        page = browser.Browser(program)
        try:
            with serving.serving(fastkv, write_tiny_model) as url:
                use(page, url + "/", folder)
        finally:
            page.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
