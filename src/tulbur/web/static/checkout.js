"use strict";
// Keeps the page up to date: a stream where there is one, else polling. Without this script the page reloads itself.
(() => {
  const main = document.getElementById("checkout");
  const text = main.dataset;
  const note = document.getElementById("note");
  const news = document.getElementById("news");
  const form = document.getElementById("check");
  const button = form.querySelector("button");
  const label = button.textContent;
  const left = document.getElementById("left");
  const POLL = 5000, HIDDEN_POLL = 30000, PAUSE = 10000, PATIENCE = 30000, WATCH_AFTER_END = 3600000;
  const deadline = Date.now() + Number(text.left) * 1000;
  const giveUp = deadline + WATCH_AFTER_END;
  let source = null, timer = 0, ticker = 0, over = false, asking = false, resting = false, loud = false, leftForApp = false;

  const say = (words) => { if (note.textContent !== words) note.textContent = words; };
  const reload = () => {
    if (!navigator.onLine) return; // the stream or the next poll tells it again
    stop();
    location.replace(text.here + "?lang=" + text.lang);
  };

  function show(state) {
    if (text.state === state) return;
    text.state = state;
    for (const part of main.querySelectorAll("[data-on]")) part.hidden = !part.dataset.on.split(" ").includes(state);
    const headline = main.querySelector(`[data-on="${state}"] .headline`).textContent;
    document.title = headline;
    news.textContent = headline;
    say("");
  }

  function stop() {
    over = true;
    if (source) source.close();
    clearTimeout(timer);
    clearInterval(ticker);
  }

  function apply(status) {
    if (over) return;
    const snapshot = [status.status, ...status.exceptions, status.money].filter(Boolean).join(" ");
    if (note.textContent === text.offline) say("");
    if (status.status === "PAID" && !status.exceptions.length && !status.money) {
      const orders = document.getElementById("orders");
      orders.textContent = "";
      for (const id of status.orders) orders.appendChild(document.createElement("li")).textContent = id;
      show("paid");
      stop();
    } else if (snapshot === text.snapshot) {
      if (status.status === "PAID") stop();
    } else if (snapshot === "EXPIRED") show("expired");
    else if (snapshot === "CANCELLED") show("cancelled");
    else reload(); // sums of money are only in the page itself
  }

  async function ask(path, method) {
    const patience = new AbortController();
    const clock = setTimeout(() => patience.abort(), PATIENCE);
    try {
      const headers = { Accept: "application/json" };
      return await fetch(text.here + path, { method, headers, cache: "no-store", signal: patience.signal });
    } finally {
      clearTimeout(clock);
    }
  }

  async function look() {
    try {
      const answer = await ask("/status", "GET");
      if (answer.ok) apply(await answer.json());
    } catch {
      if (!over) say(text.offline);
    }
  }

  function poll() {
    clearTimeout(timer);
    if (over || Date.now() > giveUp) return;
    timer = setTimeout(async () => { await look(); poll(); }, document.hidden ? HIDDEN_POLL : POLL);
  }

  function listen() {
    if (over || !window.EventSource) return poll();
    source = new EventSource(text.here + "/events");
    source.addEventListener("status", (event) => apply(JSON.parse(event.data)));
    // The browser opens a stream again by itself, unless the server had none free.
    source.addEventListener("error", () => {
      if (Date.now() > giveUp) stop();
      else if (source.readyState === EventSource.CLOSED) poll();
    });
  }

  function press(event) {
    event.preventDefault();
    if (over) return;
    loud = true;
    if (asking) say(text.asking);
    else if (resting) say(text.notyet);
    else check();
    button.setAttribute("aria-disabled", "true");
  }

  async function check() {
    asking = resting = true;
    const before = text.state;
    let words = text.trouble;
    if (loud) { button.textContent = text.asking; say(text.asking); }
    try {
      const answer = await ask("/check", "POST");
      if (answer.ok) {
        apply(await answer.json());
        words = answer.status === 202 ? text.still : text.notyet;
      }
    } catch {
      words = text.offline;
    }
    button.textContent = label;
    if (loud && !over && text.state === before) say(words);
    asking = loud = false;
    // The bank is asked at most once in this time; sooner, the answer would only be the old one.
    setTimeout(() => { resting = false; button.removeAttribute("aria-disabled"); }, PAUSE);
  }

  function tick() {
    const seconds = Math.max(0, Math.ceil((deadline - Date.now()) / 1000));
    const two = (n) => String(n).padStart(2, "0");
    const hours = Math.floor(seconds / 3600);
    const minutes = Math.floor(seconds / 60) % 60;
    left.textContent = (hours ? hours + ":" + two(minutes) : minutes) + ":" + two(seconds % 60);
    left.classList.toggle("low", seconds < 120);
    if (seconds) return;
    clearInterval(ticker);
    if (["waiting", "underpaid", "uninvoiced"].includes(text.state)) show("expired");
  }

  if (text.state === "paid") return;
  form.addEventListener("submit", press);
  for (const app of main.querySelectorAll(".apps a")) app.addEventListener("click", () => { leftForApp = true; });
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || over) return;
    look();
    // Back from the bank's app: most likely paid, so the bank is asked without a press.
    if (leftForApp && !resting) { leftForApp = false; check(); }
    if (!source || source.readyState === EventSource.CLOSED) poll();
  });
  addEventListener("offline", () => { if (!over) say(text.offline); });
  addEventListener("online", () => { if (!over) look(); });
  tick();
  ticker = setInterval(tick, 1000);
  if (text.state === "uninvoiced") setInterval(() => { if (!over && !document.hidden) reload(); }, PAUSE);
  listen();
})();
