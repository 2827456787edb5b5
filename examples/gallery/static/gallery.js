// The page: a grid of items, uploads that can be paused, a viewer, links. Names and messages are inserted as text, never
// as HTML.

import { Refused, ResumableUpload, largest } from "./resumable.js";

const $ = (selector, within = document) => within.querySelector(selector);
const grid = $("#grid"), empty = $("#empty"), uploads = $("#uploads"), viewer = $("#viewer");
const AT_ONCE = 3;

let items = [];
let summary = { items: 0, size: 0 };
let after = null; // the last item of this page, if there are more

// Formatting

const size = (bytes) => {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte"];
  const step = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, bytes)) / 3));
  const digits = step === 0 || bytes / 1000 ** step >= 100 ? 0 : 1;
  const style = { style: "unit", unit: units[step], unitDisplay: step ? "short" : "long", maximumFractionDigits: digits };
  return new Intl.NumberFormat("en", style).format(bytes / 1000 ** step);
};
const kind = (type) => type.split("/")[1].replace(/^x-|\+.*$/g, "").toUpperCase();
const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;
const about = (item) => `${kind(item.type)} · ${size(item.size)}`;
const day = (item) => new Date(item.added).toLocaleDateString("en", { dateStyle: "long" });
const isVideo = (item) => item.type.startsWith("video/");

function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `/static/icons.svg#${name}`);
  svg.append(use);
  return svg;
}

function notify(words) {
  const notice = document.createElement("div"), text = document.createElement("span"), close = document.createElement("button");
  notice.className = "notice";
  text.textContent = words;
  close.className = "icon";
  close.title = "Dismiss";
  close.append(icon("close"));
  close.onclick = () => notice.remove();
  notice.append(text, close);
  $("#notices").append(notice);
  setTimeout(() => notice.remove(), 10_000);
}

// The server

// Returns the message of a failed response. Problems of RFC 9457 and FastAPI's errors have a detail.
function complaint(status, body) {
  try {
    const { detail } = JSON.parse(body);
    if (typeof detail === "string") return detail;
  } catch { /* the body is not JSON */ }
  return status ? `The server answered with ${status}.` : "The server can’t be reached.";
}

async function ask(method, path, seen = () => {}) {
  let answer;
  try {
    answer = await fetch(path, { method });
  } catch {
    throw new Error(complaint(0));
  }
  const body = await answer.text();
  if (!answer.ok) throw new Error(complaint(answer.status, body));
  seen(answer);
  return body ? JSON.parse(body) : null;
}

// Replaces the file of an item in one request. Has the methods of ResumableUpload, except pause and resume.
class Replacement {
  #request = new XMLHttpRequest();

  constructor(file, report, path) {
    Object.assign(this, { file, report, path });
  }

  cancel() {
    this.#request.abort();
  }

  // Returns the item, or null if the upload was cancelled.
  run() {
    const request = this.#request;
    return new Promise((sent, failed) => {
      request.upload.onprogress = (event) => this.report("sending", event.loaded);
      request.onload = () => request.status < 300
        ? sent(JSON.parse(request.responseText))
        : failed(new Refused(complaint(request.status, request.responseText)));
      request.onerror = () => failed(new Refused("The connection broke, so nothing was stored."));
      request.onabort = () => sent(null);
      request.open("PUT", `${this.path}?name=${encodeURIComponent(this.file.name)}`);
      if (this.file.type) request.setRequestHeader("Content-Type", this.file.type);
      request.send(this.file);
    });
  }
}

// The grid

function card(item) {
  const element = $("#item").content.cloneNode(true).firstElementChild;
  const media = document.createElement(isVideo(item) ? "video" : item.thumbnail ? "img" : "span");
  if (isVideo(item)) {
    const badge = document.createElement("span");
    badge.className = "badge";
    badge.append(icon("play"));
    Object.assign(media, { preload: "metadata", muted: true, playsInline: true });
    media.onloadedmetadata = () => badge.append(clock(media.duration));
    $(".media", element).append(badge);
    media.src = item.url;
  } else if (item.thumbnail) {
    Object.assign(media, { loading: "lazy", alt: "", src: item.thumbnail });
  } else {
    media.className = "type";
    media.textContent = kind(item.type);
  }
  $(".media", element).prepend(media);
  $(".open", element).setAttribute("aria-label", `Show ${item.name}`);
  $(".open", element).onclick = () => show(item);
  $(".name", element).textContent = $(".name", element).title = item.name;
  $(".meta", element).textContent = about(item);
  $(".meta", element).title = `Added on ${day(item)}`;
  $("a", element).href = `${item.url}&download=true`;
  $("[data-act=share]", element).onclick = () => share(item);
  $("[data-act=replace]", element).onclick = () => choose($("#replacer"), ([file]) => replace(item, file, element));
  $("[data-act=delete]", element).onclick = () => remove(item, element);
  element.dataset.id = item.id;
  return element;
}

const path = (more) => `/items?${new URLSearchParams({ search: $("#search").value, ...more })}`;

// Shows the first page of the items that match the search.
async function load() {
  const search = $("#search").value, words = new URLSearchParams({ search });
  const [found, counted] = await Promise.all([fetchPage({}), ask("GET", `/summary?${words}`)]);
  if (search !== $("#search").value) return; // a later search is on its way
  [items, summary] = [found, counted];
  grid.replaceChildren(...items.map(card));
  showSummary();
}

async function fetchPage(more) {
  return ask("GET", path(more), (answer) => {
    after = answer.headers.get("Next-After");
    $("#more").hidden = !after;
  });
}

function showSummary() {
  const searching = $("#search").value !== "";
  empty.hidden = items.length > 0 || searching;
  $("#none").hidden = items.length > 0 || !searching;
  const { items: count, size: total } = summary;
  $("#summary").textContent = count ? `${count} ${count === 1 ? "item" : "items"}, ${size(total)}` : "";
}

function count(items, size) {
  summary = { items: summary.items + items, size: summary.size + size };
  showSummary();
}

$("#more").onclick = async () => {
  $("#more").disabled = true;
  try {
    const found = await fetchPage({ after });
    items.push(...found);
    grid.append(...found.map(card));
  } catch (error) {
    notify(error.message);
  }
  $("#more").disabled = false;
};

let typing = 0;
$("#search").oninput = () => {
  clearTimeout(typing);
  typing = setTimeout(() => load().catch((error) => notify(error.message)), 200);
};

// Uploads

const waiting = [];
let running = 0;

function add(files) {
  for (const file of files) enqueue(file, (report) => new ResumableUpload(file, report), async (id) => {
    const item = await ask("GET", `/items/${id}`);
    if (items.some((each) => each.id === item.id)) return;
    items.unshift(item);
    grid.prepend(card(item));
    count(1, item.size);
  });
}

function replace(item, file, element) {
  enqueue(file, (report) => new Replacement(file, report, `/items/${item.id}/file`), (fresh) => {
    items[items.findIndex((each) => each.id === item.id)] = fresh;
    element.replaceWith(card(fresh));
    count(0, fresh.size - item.size);
  });
}

function enqueue(file, make, done) {
  const element = $("#upload").content.cloneNode(true).firstElementChild;
  $(".name", element).textContent = file.name;
  uploads.append(element);
  const job = { file, element, make, done };
  $("[data-act=cancel]", element).onclick = () => {
    waiting.splice(waiting.indexOf(job) >>> 0, 1);
    element.remove();
  };
  waiting.push(job);
  advance();
}

async function advance() {
  const job = running < AT_ONCE && waiting.shift();
  if (!job) return;
  running += 1;
  const { element, file } = job, bar = $("progress", element), state = $(".state", element);
  const pause = $("[data-act=pause]", element), cancel = $("[data-act=cancel]", element);
  let sent = 0, paused = false;
  const words = () => sent < file.size ? `${Math.floor(sent / file.size * 100)} % of ${size(file.size)}` : "Storing";
  const upload = job.make((what, bytes) => {
    if (what === "sending") sent = bytes;
    bar.value = file.size ? sent / file.size : 1;
    if (!paused) state.textContent = what === "waiting" ? `Waiting for the server, at ${words()}` : words();
  });
  cancel.onclick = () => upload.cancel();
  pause.hidden = !upload.pause;
  pause.onclick = () => {
    paused = !paused;
    paused ? upload.pause() : upload.resume();
    element.classList.toggle("paused", paused);
    state.textContent = paused ? `Paused at ${words()}` : words();
    pause.title = paused ? "Resume" : "Pause";
    pause.replaceChildren(icon(paused ? "play" : "pause"));
  };
  try {
    if (upload.pause && file.size > await largest()) {
      throw new Refused(`This file has ${size(file.size)}, and at most ${size(await largest())} fit here.`);
    }
    const result = await upload.run();
    if (result !== null) await job.done(result);
    element.remove();
  } catch (error) {
    element.classList.remove("paused");
    element.classList.add("failed");
    state.textContent = error.message;
    state.setAttribute("role", "alert");
    pause.hidden = true;
    cancel.title = "Dismiss";
    cancel.onclick = () => element.remove();
  } finally {
    running -= 1;
    advance();
  }
}

// Links

function share(item) {
  const dialog = $("#share"), address = $("input", dialog), hours = $("select", dialog), copy = $(".copy", dialog);
  const make = async () => {
    const { url, until } = await ask("POST", `/items/${item.id}/link?hours=${hours.value}`);
    address.value = url;
    $("time", dialog).textContent = new Date(until).toLocaleString("en", { dateStyle: "long", timeStyle: "short" });
    copy.textContent = "Copy";
  };
  const remake = () => make().catch((error) => {
    dialog.close();
    notify(error.message);
  });
  $("span", dialog).textContent = item.name;
  hours.onchange = remake;
  copy.onclick = async () => {
    address.select();
    await navigator.clipboard.writeText(address.value).then(() => { copy.textContent = "Copied"; }, () => {});
  };
  remake();
  dialog.showModal();
}

// Deleting

async function remove(item, element) {
  const dialog = $("#confirm");
  $("span", dialog).textContent = item.name;
  dialog.returnValue = "no";
  dialog.showModal();
  await new Promise((closed) => dialog.addEventListener("close", closed, { once: true }));
  if (dialog.returnValue !== "yes") return;
  element.classList.add("busy");
  try {
    await ask("DELETE", `/items/${item.id}`);
    items = items.filter((each) => each.id !== item.id);
    element.remove();
    count(-1, -item.size);
  } catch (error) {
    element.classList.remove("busy");
    notify(error.message);
  }
}

// The viewer

let showing = null;

function show(item) {
  showing = item;
  const media = document.createElement(isVideo(item) ? "video" : "img");
  if (isVideo(item)) Object.assign(media, { controls: true, autoplay: true, playsInline: true });
  else media.alt = item.name;
  media.src = item.url;
  $(".stage", viewer).replaceChildren(media);
  $("strong", viewer).textContent = item.name;
  $(".caption span", viewer).textContent = `${about(item)} · ${day(item)}`;
  if (!viewer.open) viewer.showModal();
}

function step(by) {
  const at = items.findIndex((each) => each.id === showing.id);
  show(items[(at + by + items.length) % items.length]);
}

for (const button of viewer.querySelectorAll("[data-step]")) button.onclick = () => step(Number(button.dataset.step));
$("[data-close]", viewer).onclick = () => viewer.close();
$(".stage", viewer).onclick = (event) => event.target === event.currentTarget && viewer.close();
viewer.onclose = () => $(".stage", viewer).replaceChildren(); // ends its download
viewer.onkeydown = (event) => {
  const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (by && event.target.tagName !== "VIDEO") step(by);
};

// Selecting and dropping files

function choose(input, then) {
  input.onchange = () => {
    then([...input.files]);
    input.value = "";
  };
  input.click();
}

$("#add").onclick = $("#choose").onclick = () => choose($("#picker"), add);

const carriesFiles = (event) => event.dataTransfer?.types.includes("Files");
let depth = 0; // The number of elements that contain the dragged file.

addEventListener("dragenter", (event) => {
  if (!carriesFiles(event)) return;
  depth += 1;
  $("#drop").hidden = false;
});
addEventListener("dragleave", (event) => {
  if (!carriesFiles(event)) return;
  depth -= 1;
  $("#drop").hidden = depth <= 0;
});
addEventListener("dragover", (event) => carriesFiles(event) && event.preventDefault());
addEventListener("drop", (event) => {
  if (!carriesFiles(event)) return;
  event.preventDefault();
  depth = 0;
  $("#drop").hidden = true;
  add(event.dataTransfer.files);
});

try {
  await load();
} catch (error) {
  notify(error.message);
}
