"use strict";
// Asks the endpoint for each photo, one after the other, and shows what it says. Nothing leaves this server.

const byId = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const items = (count) => `${count} item${count === 1 ? "" : "s"}`;
const RECOUNT_FROM = 0.1; // as in components/core/posterior.py
const rows = [];
let model = "bin-counter";
let queue = Promise.resolve();

async function start() {
  const names = (await (await fetch("v1/models")).json()).models;
  model = new URLSearchParams(location.search).get("model") || names[0];
  const about = await (await fetch(`v2/models/${encodeURIComponent(model)}`)).json();
  byId("model").textContent = `Model ${model}, version ${about.versions[0]}`;
}

function add(files) {
  for (const file of files) {
    const row = { file, quantity: byId("quantity").value, answer: null, error: "" };
    row.element = byId("answer").content.firstElementChild.cloneNode(true);
    const image = row.element.querySelector("img");
    image.addEventListener("error", () => { image.hidden = true; }); // no photo: the answer says so
    image.src = URL.createObjectURL(file);
    image.alt = `Photo ${file.name}`;
    row.element.querySelector(".file").textContent = file.name;
    row.element.querySelector(".count").textContent = "Counting …";
    const own = row.element.querySelector(".own input");
    own.value = row.quantity;
    own.addEventListener("change", () => {
      row.quantity = own.value;
      enqueue(row);
    });
    byId("answers").append(row.element);
    rows.push(row);
    enqueue(row);
  }
}

function enqueue(row) {
  queue = queue.then(() => ask(row)).then(summarise);
}

async function ask(row) {
  const query = row.quantity === "" ? "" : `?recorded_quantity=${encodeURIComponent(row.quantity)}`;
  row.answer = null;
  row.error = "";
  try {
    const options = { method: "POST", body: row.file, headers: { "Content-Type": "application/octet-stream" } };
    let reply = await fetch(`v1/models/${encodeURIComponent(model)}:predict${query}`, options);
    while (reply.status === 503) {
      await new Promise((resume) => setTimeout(resume, 1000 * Number(reply.headers.get("Retry-After") || 1)));
      reply = await fetch(`v1/models/${encodeURIComponent(model)}:predict${query}`, options);
    }
    const content = await reply.json();
    if (reply.ok) row.answer = content.predictions[0];
    else row.error = content.error;
  } catch {
    row.error = "The server cannot be reached.";
  }
  show(row);
}

function show(row) {
  const part = (selector) => row.element.querySelector(selector);
  const answer = row.answer;
  part(".count").textContent = answer ? items(answer.count) : "Not counted";
  part(".count").classList.toggle("error", !answer);
  part("tbody").replaceChildren(...(answer ? answer.scores.map((score, place) => bar(place + 1, score)) : []));
  part("table").hidden = !answer;
  part(".outside").textContent = !answer
    ? row.error
    : answer.out_of_range === null
      ? ""
      : `None, or more than ${answer.scores.length}: ${percent(answer.out_of_range)}`;
  const verdict = part(".verdict");
  verdict.className = "verdict";
  verdict.textContent = "";
  if (answer && answer.mismatch_probability !== undefined) judge(verdict, answer, Number(row.quantity));
}

function judge(verdict, answer, quantity) {
  const most = answer.scores.length;
  if (answer.mismatch_probability === null) {
    verdict.textContent = answer.photo_mismatch === null
      ? `Whether the record of ${items(quantity)} is right cannot be told: the model counts 1 to ${most}.`
      : `The photo alone gives the record of ${items(quantity)} ${percent(1 - answer.photo_mismatch)}; how often records are wrong is not known to this model.`;
    return;
  }
  const likeliest = answer.likeliest_count === null ? `more than ${most}` : answer.likeliest_count;
  const recount = answer.mismatch_probability >= RECOUNT_FROM;
  verdict.classList.add(recount ? "mismatch" : "match");
  const wrong = `by photo and recorded quantity it is wrong with ${percent(answer.mismatch_probability)}`;
  const why = likeliest === quantity ? `no count is likelier than the recorded ${quantity}, but` : `${likeliest} is likelier, ${quantity} is recorded;`;
  verdict.textContent = recount ? `Recount: ${why} ${wrong}.` : `Agrees with the record of ${items(quantity)}: ${wrong}.`;
}

function bar(count, score) {
  const line = document.createElement("tr");
  const head = document.createElement("th");
  head.scope = "row";
  head.textContent = count;
  const meter = document.createElement("progress");
  meter.max = 1;
  meter.value = score;
  meter.setAttribute("aria-hidden", "true"); // the number beside it says the same
  line.append(head, cell(meter), cell(percent(score)));
  return line;
}

function cell(content) {
  const element = document.createElement("td");
  element.append(content);
  return element;
}

function summarise() {
  const counted = rows.filter((row) => row.answer);
  const failed = rows.filter((row) => row.error).length;
  const total = counted.reduce((sum, row) => sum + row.answer.count, 0);
  byId("status").textContent = rows.length === 0 ? "" :
    `${counted.length} of ${rows.length} photos counted, ${items(total)} in all${failed ? `, ${failed} refused` : ""}.`;
  byId("save").disabled = counted.length + failed === 0;
  byId("clear").disabled = rows.length === 0;
}

function quoted(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  // A spreadsheet would run a text that begins like a formula. Where its language writes lists with semicolons or tabs
  // it cuts this line at those, quoted or not, so that a formula could begin behind any of them.
  const line = String(value).replace(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]+/g, " ");
  const safe = line.replace(/(^|[;,|:"'])(\s*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])/g, "$1$2'");
  return /[",;|]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function csv() {
  const width = Math.max(0, ...rows.map((row) => (row.answer ? row.answer.scores.length : 0)));
  const scores = Array.from({ length: width }, (_, place) => `score_${place + 1}`);
  const head = ["file", "count", "expected_count", ...scores, "out_of_range", "recorded_quantity", "mismatch_probability", "photo_mismatch", "likeliest_count", "model_version", "error"];
  const lines = rows.map(({ file, answer, quantity, error }) => {
    const a = answer || { scores: [] };
    return [file.name, a.count, a.expected_count, ...scores.map((_, place) => a.scores[place]), a.out_of_range,
      quantity === "" ? null : Number(quantity), a.mismatch_probability, a.photo_mismatch, a.likeliest_count, a.model_version, error];
  });
  return [head, ...lines].map((line) => line.map(quoted).join(",")).join("\r\n") + "\r\n";
}

byId("photos").addEventListener("change", (event) => {
  add(event.target.files);
  event.target.value = "";
});
byId("ask").addEventListener("submit", (event) => event.preventDefault());
byId("save").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "counts.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
});
byId("clear").addEventListener("click", () => {
  for (const row of rows.splice(0)) {
    URL.revokeObjectURL(row.element.querySelector("img").src);
    row.element.remove();
  }
  summarise();
  byId("photos").focus();
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") add(event.dataTransfer.files);
  });
}
start().catch(() => { byId("model").textContent = "The server cannot be reached."; });
