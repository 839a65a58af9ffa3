"use strict";
const field = document.getElementById("search"), found = document.getElementById("found");
const parts = [...document.querySelectorAll("[data-search]")].map(part => [part, part.textContent.toLowerCase()]);
const doors = [...document.querySelectorAll("nav [data-for]")];
function search() {
  const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
  let number = 0;
  for (const [part, text] of parts) {
    part.hidden = !words.every(word => text.includes(word));
    number += !part.hidden;
  }
  for (const door of doors) door.hidden = document.getElementById(door.dataset.for).hidden;
  document.getElementById("introduction").hidden = words.length > 0;
  found.textContent = words.length ? number + " found" : "";
}
function showTarget() {
  const part = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (part && part.closest("[hidden]")) { field.value = ""; search(); part.scrollIntoView(); }
}
field.closest("p").hidden = false;
field.addEventListener("input", search);
window.addEventListener("hashchange", showTarget);
document.addEventListener("keydown", event => {
  if (event.key === "/" && document.activeElement !== field) { event.preventDefault(); field.focus(); field.select(); }
  if (event.key === "Escape" && document.activeElement === field) { field.value = ""; search(); field.blur(); }
});
