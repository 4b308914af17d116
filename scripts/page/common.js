"use strict";
const $ = (id) => document.getElementById(id);
const percent = (share) => (100 * share).toFixed(1) + " %";

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

function bar(name, share, isTrue) {
  const row = element("div", isTrue ? "bar true" : "bar");
  const track = element("div", "track");
  const fill = element("div", "fill");
  fill.style.width = 100 * share + "%";
  track.append(fill);
  row.append(element("span", "name", name), track, element("span", "number", percent(share)));
  return row;
}

function classBar(each) {
  return bar((each.is_true ? "\u2713 " : "") + each.name, each.probability, each.is_true);
}

function showNumber(id, value, text) {
  $(id).value = value;
  $(id).textContent = text;
}

$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
});
