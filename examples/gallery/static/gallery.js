// The page: a grid of items, uploads with progress, a viewer. Names and messages are inserted as text, never as HTML.

const $ = (selector, within = document) => within.querySelector(selector);
const grid = $("#grid"), empty = $("#empty"), uploads = $("#uploads"), viewer = $("#viewer");
const AT_ONCE = 3;

let items = [];

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

async function ask(method, path) {
  let answer;
  try {
    answer = await fetch(path, { method });
  } catch {
    throw new Error(complaint(0));
  }
  const body = await answer.text();
  if (!answer.ok) throw new Error(complaint(answer.status, body));
  return body ? JSON.parse(body) : null;
}

// fetch does not report the progress of an upload. Returns { sent, cancel }.
function send(method, path, file, progress) {
  const request = new XMLHttpRequest();
  const sent = new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => progress(event.loaded / event.total);
    request.onload = () => request.status < 300
      ? resolve(JSON.parse(request.responseText))
      : reject(new Error(complaint(request.status, request.responseText)));
    request.onerror = () => reject(new Error("The connection broke; nothing was stored."));
    request.onabort = () => reject(null);
  });
  request.open(method, `${path}?name=${encodeURIComponent(file.name)}`);
  if (file.type) request.setRequestHeader("Content-Type", file.type);
  request.send(file);
  return { sent, cancel: () => request.abort() };
}

// The grid

function card(item) {
  const element = $("#item").content.cloneNode(true).firstElementChild;
  const media = document.createElement(isVideo(item) ? "video" : "img");
  if (isVideo(item)) {
    const badge = document.createElement("span");
    badge.className = "badge";
    badge.append(icon("play"));
    Object.assign(media, { preload: "metadata", muted: true, playsInline: true });
    media.onloadedmetadata = () => badge.append(clock(media.duration));
    $(".media", element).append(badge);
  } else {
    Object.assign(media, { loading: "lazy", alt: "" });
  }
  media.src = item.url;
  $(".media", element).prepend(media);
  $(".open", element).setAttribute("aria-label", `Show ${item.name}`);
  $(".open", element).onclick = () => show(item);
  $(".name", element).textContent = $(".name", element).title = item.name;
  $(".meta", element).textContent = about(item);
  $(".meta", element).title = `Added on ${day(item)}`;
  $("a", element).href = `${item.url}&download=true`;
  $("[data-act=replace]", element).onclick = () => choose($("#replacer"), ([file]) => replace(item, file, element));
  $("[data-act=delete]", element).onclick = () => remove(item, element);
  element.dataset.id = item.id;
  return element;
}

function draw() {
  grid.replaceChildren(...items.map(card));
  showSummary();
}

function showSummary() {
  empty.hidden = items.length > 0;
  const total = items.reduce((sum, item) => sum + item.size, 0);
  $("#summary").textContent = items.length ? `${items.length} ${items.length === 1 ? "item" : "items"}, ${size(total)}` : "";
}

// Uploads

const waiting = [];
let running = 0;

function add(files) {
  for (const file of files) enqueue("POST", "/items", file, (item) => {
    items.unshift(item);
    grid.prepend(card(item));
    showSummary();
  });
}

function replace(item, file, element) {
  enqueue("PUT", `/items/${item.id}/file`, file, (fresh) => {
    items[items.findIndex((each) => each.id === item.id)] = fresh;
    element.replaceWith(card(fresh));
    showSummary();
  });
}

function enqueue(method, path, file, done) {
  const element = $("#upload").content.cloneNode(true).firstElementChild;
  $(".name", element).textContent = file.name;
  uploads.append(element);
  const job = { method, path, file, element, done };
  $("button", element).onclick = () => {
    waiting.splice(waiting.indexOf(job) >>> 0, 1);
    element.remove();
  };
  waiting.push(job);
  next();
}

async function next() {
  const job = running < AT_ONCE && waiting.shift();
  if (!job) return;
  running += 1;
  const { element, file } = job, bar = $("progress", element), state = $(".state", element), button = $("button", element);
  const { sent, cancel } = send(job.method, job.path, file, (share) => {
    bar.value = share;
    state.textContent = share < 1 ? `${Math.round(share * 100)} % of ${size(file.size)}` : "Storing";
  });
  button.onclick = cancel;
  try {
    job.done(await sent);
    element.remove();
  } catch (error) {
    if (error === null) {
      element.remove();
    } else {
      element.classList.add("failed");
      state.textContent = error.message;
      state.setAttribute("role", "alert");
      button.title = "Dismiss";
      button.onclick = () => element.remove();
    }
  } finally {
    running -= 1;
    next();
  }
  next();
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
    showSummary();
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
  items = await ask("GET", "/items");
  draw();
} catch (error) {
  notify(error.message);
}
