// Tells the driving server which keys are held and how a gamepad stands. It acts only in the page that has the wheel:
// the server puts an element with a secret into that page alone, and takes it away again.
(() => {
  "use strict";
  const KEYS = new Set([
    "KeyW", "KeyS", "KeyA", "KeyD", "KeyR", "KeyF", "KeyQ", "KeyE", "KeyZ", "KeyX", "KeyT",
    "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "Space",
  ]);
  const held = new Set();
  let pressed = [], socket = null, seat = null, padded = false, trip = null, lastPad = "";

  const typing = (node) =>
    node instanceof HTMLElement &&
    (node.isContentEditable || /^(TEXTAREA|SELECT)$/.test(node.tagName) ||
      (node.tagName === "INPUT" && !/^(button|checkbox|radio|range)$/.test(node.type)));

  function pad() {
    if (!padded) return null;
    const found = Array.from(navigator.getGamepads()).find((one) => one && one.connected);
    if (!found) return null;
    return {
      axes: found.axes.slice(0, 4).map((value) => Math.round(value * 1000) / 1000),
      buttons: found.buttons.slice(0, 16).map((button) => (button.pressed ? 1 : 0)),
    };
  }

  function send() {
    if (!socket || socket.readyState !== WebSocket.OPEN) return;
    socket.send(JSON.stringify({ held: [...held], pressed, pad: pad(), sent: performance.now(), trip }));
    pressed = [];
  }

  function connect() {
    if (socket) socket.close();
    socket = null;
    held.clear();
    if (!seat) return;
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    const mine = new WebSocket(`${scheme}//${location.host}/input?seat=${encodeURIComponent(seat)}`);
    mine.onmessage = (event) => {
      const sent = Number(event.data);
      if (Number.isFinite(sent)) trip = performance.now() - sent;
    };
    mine.onopen = send;
    mine.onclose = () => { if (socket === mine) { socket = null; } };
    socket = mine;
  }

  setInterval(() => {
    const element = document.getElementById("vap-sim-seat");
    const found = element ? element.dataset.seat : null;
    if (found !== seat || (seat && !socket)) { seat = found; connect(); }
  }, 200);

  // In the capture phase, before the 3-D view moves its camera by the same keys.
  addEventListener("keydown", (event) => {
    if (!seat || !KEYS.has(event.code) || event.ctrlKey || event.metaKey || event.altKey || typing(event.target)) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    if (event.repeat) return;
    held.add(event.code);
    pressed.push(event.code);
    send();
  }, true);
  addEventListener("keyup", (event) => {
    if (held.delete(event.code)) { event.stopImmediatePropagation(); send(); }
  }, true);
  const release = () => { if (held.size) { held.clear(); send(); } };
  addEventListener("blur", release);
  document.addEventListener("visibilitychange", () => { if (document.hidden) release(); });
  addEventListener("gamepadconnected", () => { padded = true; });

  setInterval(() => {
    const now = JSON.stringify(pad());
    if (held.size || now !== lastPad) send();
    lastPad = now;
  }, 60);
  setInterval(send, 1000);
})();
