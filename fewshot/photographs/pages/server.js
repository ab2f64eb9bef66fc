"use strict";
const $ = (id) => document.getElementById(id);
const SHOWN = 5, AT_ONCE = 3;
const EMPTY = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==";  // a clear pixel
const waiting = [];
let running = 0, chosen = [];
$("token").value = new URLSearchParams(location.hash.slice(1)).get("token") || "";
if (location.hash) history.replaceState(null, "", location.pathname);

async function ask(method, path, body) {
  const token = $("token").value.trim();
  const response = await fetch(path, { method, body, headers: token ? { Authorization: `Bearer ${token}` } : {} });
  const said = await response.json().catch(() => ({ detail: `the server answered with status ${response.status}` }));
  if (!response.ok) throw new Error(said.detail);
  return said;
}

function show(image, file) {
  const url = new FileReader();
  image.onerror = () => { image.onerror = null; image.src = EMPTY; };
  url.onload = () => { image.src = url.result; };
  url.readAsDataURL(file);
}

function element(kind, text, name) {
  const made = document.createElement(kind);
  made.textContent = text;
  if (name) made.className = name;
  return made;
}

function bar(share, label, kind) {
  const line = element("div", "", `bar ${kind}`), track = element("i", ""), filled = element("u", "");
  filled.style.width = `${100 * share}%`;
  track.append(filled);
  line.append(element("span", label), track, element("em", `${Math.round(100 * share)}%`));
  line.firstChild.title = label;
  return line;
}

function write(article, answer) {
  const head = article.querySelector("h2"), ranked = Object.entries(answer.probabilities);
  head.textContent = `${answer.label} `;
  head.className = answer.accepted ? "" : "none";
  if (answer.accepted) head.append(element("small", `${Math.round(100 * ranked[0][1])}%`));
  const words = [];
  if (!answer.accepted) words.push(`The nearest class is ${ranked[0][0]}.`);
  if (answer.set) words.push(answer.set.length ? `May be: ${answer.set.join(", ")}` : "None of the classes fits.");
  article.querySelector(".truth").textContent = words.join(" ");
  ranked.slice(0, SHOWN).forEach(([name, share], n) =>
    article.querySelector(".bars").append(bar(share, name, n === 0 && answer.accepted ? "first" : "")));
}

async function answerOne({ file, article }) {
  const form = new FormData();
  form.append("photos", file, file.name);
  try {
    write(article, (await ask("POST", "predict", form)).answers[0]);
  } catch (error) {
    article.querySelector("h2").textContent = "no answer";
    article.querySelector(".truth").textContent = error.message;
    article.classList.add("failed");
  }
}

function next() {
  while (running < AT_ONCE && waiting.length) {
    running += 1;
    answerOne(waiting.shift()).finally(() => { running -= 1; next(); });
  }
  $("state").textContent = waiting.length ? `${waiting.length} more wait` : "";
}

function add(files) {
  for (const file of files) {
    const article = $("answer").content.firstElementChild.cloneNode(true);
    show(article.querySelector("img"), file);
    article.querySelector("h2").textContent = "…";
    article.querySelector(".path").textContent = file.name;
    $("answers").prepend(article);
    waiting.push({ file, article });
  }
  next();
}

function choose(files) {
  for (const file of files) {
    chosen.push(file);
    const image = element("img", "");
    image.alt = file.name;
    show(image, file);
    $("chosen").append(image);
  }
  $("learn").disabled = !chosen.length;
}

function list(said) {
  $("count").textContent = said.classes.length;
  $("classes").replaceChildren(...said.classes.map((name) => {
    const line = element("li", ""), button = element("button", "remove");
    button.setAttribute("aria-label", `remove ${name}`);
    button.onclick = () => change(`${name} was removed`, "DELETE", name);
    line.append(element("span", name), button);
    return line;
  }));
}

async function change(sentence, method, name, form) {
  $("told").textContent = "…";
  try {
    list(await ask(method, `classes/${encodeURIComponent(name)}`, form));
    $("told").textContent = sentence;
    return true;
  } catch (error) {
    $("told").textContent = error.message;
    return false;
  }
}

for (const [id, take] of [["files", add], ["camera", add], ["more", choose], ["shot", choose]]) {
  $(id).onchange = () => { take($(id).files); $(id).value = ""; };
}
document.ondragover = (event) => { event.preventDefault(); $("drop").classList.add("over"); };
document.ondragleave = () => $("drop").classList.remove("over");
document.ondrop = (event) => {
  event.preventDefault();
  $("drop").classList.remove("over");
  add(event.dataTransfer.files);
};
$("add").onsubmit = async (event) => {
  event.preventDefault();
  const form = new FormData(), name = $("name").value.trim();
  chosen.forEach((file) => form.append("photos", file, file.name));
  $("learn").disabled = true;
  if (await change(`${name} was added`, "POST", name, form)) {
    chosen = [];
    $("chosen").replaceChildren();
    $("name").value = "";
  }
  $("learn").disabled = !chosen.length;
};
$("teach").ontoggle = () => {
  if ($("teach").open) ask("GET", "classes").then(list, (error) => { $("told").textContent = error.message; });
};
