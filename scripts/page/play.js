(() => {
  let state = JSON.parse($("data").textContent);
  let busy = false;
  const cursor = { top: 0, left: 0 };

  function placed(made, corner, height, width) {
    made.style.top = 100 * corner[0] / state.size[0] + "%";
    made.style.left = 100 * corner[1] / state.size[1] + "%";
    made.style.height = 100 * height / state.size[0] + "%";
    made.style.width = 100 * width / state.size[1] + "%";
    return made;
  }

  function picture(source, corner, height, width) {
    const made = document.createElement("img");
    made.alt = "";
    made.draggable = false;
    made.src = source;
    return placed(made, corner, height, width);
  }

  function show() {
    const result = state.result;
    const [height, width] = state.size;
    const scene = $("scene");
    scene.style.aspectRatio = width + " / " + height;
    scene.replaceChildren();
    const last = state.looks[state.looks.length - 1];
    if (result) scene.append(picture(result.picture, [0, 0], height, width));
    for (const look of state.looks) {
      if (!result) scene.append(picture(look.picture, look.corner || [0, 0], look.corner ? look.side : height, look.corner ? look.side : width));
    }
    for (const look of state.looks) {
      if (look.corner) scene.append(placed(element("div", "box"), look.corner, look.side, look.side));
    }
    if (result) {
      for (const look of result.policy) {
        if (look.corner) scene.append(placed(element("div", "box policy"), look.corner, look.side, look.side));
      }
      const theirs = result.policy[result.policy.length - 1];
      $("status").textContent = "It is " + result.truth + ". With your looks: " + last.prediction + ", " + percent(last.confidence) +
        " sure. With " + state.opponent + "'s (dashed): " + theirs.prediction + ", " + percent(theirs.confidence) + " sure.";
    } else {
      const made = element("div", "box");
      made.id = "cursor";
      scene.append(made);
      $("status").textContent = (state.num_looks - state.looks.length) + " looks left. So far the classifier says " +
        last.prediction + ", " + percent(last.confidence) + " sure.";
      moveTo(cursor.top, cursor.left);
    }
    $("bars").replaceChildren(...last.bars.map(classBar));
    $("look").disabled = Boolean(result);
    $("opponent").textContent = state.opponent;
    $("opponent-short").textContent = state.opponent;
    showNumber("person", state.score.person, state.score.person);
    showNumber("policy", state.score.policy, state.score.policy);
    showNumber("images", state.score.images, state.score.images);
  }

  function moveTo(top, left) {
    cursor.top = Math.min(Math.max(top, 0), state.size[0] - state.patch_size);
    cursor.left = Math.min(Math.max(left, 0), state.size[1] - state.patch_size);
    if ($("cursor")) placed($("cursor"), [cursor.top, cursor.left], state.patch_size, state.patch_size);
  }

  function center() {
    moveTo((state.size[0] - state.patch_size) / 2, (state.size[1] - state.patch_size) / 2);
  }

  function point(event) {
    const frame = $("scene").getBoundingClientRect();
    moveTo((event.clientY - frame.top) / frame.height * state.size[0] - state.patch_size / 2,
      (event.clientX - frame.left) / frame.width * state.size[1] - state.patch_size / 2);
  }

  async function send(path, place) {
    if (busy) return;
    busy = true;
    try {
      const answer = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(place) });
      const found = await answer.json();
      $("error").textContent = answer.ok ? "" : found.error;
      if (answer.ok) {
        state = found;
        if (path === "/next") center();
        show();
      }
    } catch (error) {
      $("error").textContent = "The game has ended: its server no longer answers.";
    } finally {
      busy = false;
    }
  }

  function look() {
    if (state.result) return;
    const room = [state.size[0] - state.patch_size, state.size[1] - state.patch_size];
    send("/look", { row: room[0] ? cursor.top / room[0] : 0, col: room[1] ? cursor.left / room[1] : 0 });
  }

  $("scene").addEventListener("pointermove", point);
  $("scene").addEventListener("click", (event) => { point(event); look(); });
  $("look").addEventListener("click", look);
  $("next").addEventListener("click", () => send("/next", {}));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const step = state.patch_size / (event.shiftKey ? 16 : 4);
    const moves = {
      ArrowUp: () => moveTo(cursor.top - step, cursor.left), ArrowDown: () => moveTo(cursor.top + step, cursor.left),
      ArrowLeft: () => moveTo(cursor.top, cursor.left - step), ArrowRight: () => moveTo(cursor.top, cursor.left + step),
      n: () => send("/next", {}), N: () => send("/next", {}),
    };
    if (event.key === "Enter" && event.target.tagName !== "BUTTON") moves.Enter = look;
    if (!moves[event.key]) return;
    event.preventDefault();
    moves[event.key]();
  });
  center();
  show();
})();
