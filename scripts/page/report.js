(() => {
  const data = JSON.parse($("data").textContent);
  const mega = (cost) => (cost / 1e6).toFixed(1) + " M";

  // the gallery
  let episode = 0;
  let look = 0;
  function showLook() {
    const played = data.episodes[episode];
    const now = played.looks[look];
    const name = look === 0 ? "the first look" : "look " + (look + 1);
    $("picture").src = now.image;
    $("picture").alt = "Image " + played.index + " after " + name + ": predicted " + now.prediction;
    $("episode-number").textContent = "episode " + (episode + 1) + " of " + data.episodes.length;
    $("look-number").textContent = "look " + (look + 1) + " of " + played.looks.length;
    $("verdict").textContent = "After " + name + ": " + now.prediction + ", " + percent(now.confidence) +
      (now.right ? " sure. Right." : " sure. Wrong: it is " + played.truth + ", which has " + percent(now.truth_probability) + ".");
    $("verdict").className = now.right ? "right" : "wrong";
    $("bars").replaceChildren(...now.bars.map(classBar));
    $("previous-look").disabled = look === 0;
    $("next-look").disabled = look === played.looks.length - 1;
    $("previous-episode").disabled = episode === 0;
    $("next-episode").disabled = episode === data.episodes.length - 1;
  }
  function moveLook(by) {
    look = Math.min(Math.max(look + by, 0), data.episodes[episode].looks.length - 1);
    showLook();
  }
  function moveEpisode(by) {
    const to = Math.min(Math.max(episode + by, 0), data.episodes.length - 1);
    if (to === episode) return;
    episode = to;
    look = 0;
    showLook();
  }
  $("previous-look").addEventListener("click", () => moveLook(-1));
  $("next-look").addEventListener("click", () => moveLook(1));
  $("previous-episode").addEventListener("click", () => moveEpisode(-1));
  $("next-episode").addEventListener("click", () => moveEpisode(1));
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "INPUT") return;
    const moves = {
      ArrowLeft: () => moveLook(-1), ArrowRight: () => moveLook(1),
      n: () => moveEpisode(1), N: () => moveEpisode(1), p: () => moveEpisode(-1), P: () => moveEpisode(-1),
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    moves[event.key]();
  });
  showLook();

  // the budget
  const front = data.front;
  if (!front) {
    $("front").hidden = true;
    $("no-front").hidden = false;
    return;
  }
  const box = { left: 50, right: 465, top: 15, bottom: 215 };
  const whole = front.full_resolution;
  const heights = front.accuracies.concat(whole ? [whole.accuracy] : []);
  const lowest = Math.min(...heights), highest = Math.max(...heights);
  const cheapest = Math.min(...front.costs), dearest = Math.max(...front.costs);
  const x = (cost) => box.left + (box.right - box.left) * (cost - cheapest) / (dearest - cheapest || 1);
  const y = (accuracy) => box.bottom - (box.bottom - box.top) * (accuracy - lowest) / (highest - lowest || 1);
  function drawn(tag, attributes, text) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    if (text !== undefined) made.textContent = text;
    $("chart").append(made);
    return made;
  }
  drawn("path", { d: `M${box.left} ${box.top}V${box.bottom}H${box.right}`, fill: "none", stroke: "var(--line)" });
  drawn("text", { x: box.left, y: 234 }, mega(cheapest));
  drawn("text", { x: box.right, y: 234, "text-anchor": "end" }, mega(dearest));
  drawn("text", { x: (box.left + box.right) / 2, y: 253, "text-anchor": "middle" }, "multiply-adds spent per image");
  drawn("text", { x: 44, y: y(lowest), "text-anchor": "end" }, percent(lowest).replace(" ", ""));
  if (highest > lowest) drawn("text", { x: 44, y: y(highest) + 8, "text-anchor": "end" }, percent(highest).replace(" ", ""));
  if (whole) drawn("path", { d: `M${box.left} ${y(whole.accuracy)}H${box.right}`, stroke: "var(--soft)", "stroke-dasharray": "5 4" });
  const line = front.costs.map((cost, index) => [cost, front.accuracies[index]]).sort((a, b) => a[0] - b[0]);
  drawn("path", { d: "M" + line.map(([cost, accuracy]) => x(cost) + " " + y(accuracy)).join("L"), fill: "none", stroke: "var(--accent)", "stroke-width": 2.5 });
  const dot = drawn("circle", { r: 7, fill: "var(--wrong)" });
  $("chart-caption").textContent = "The dot is the chosen budget." + (whole ?
    " Dashed: the full-resolution network, " + percent(whole.accuracy) + " for " + mega(whole.cost) + " multiply-adds." : "");

  function showBudget() {
    const index = Number($("budget").value);
    showNumber("allowed", front.budgets[index], mega(front.budgets[index]));
    showNumber("accuracy", front.accuracies[index], percent(front.accuracies[index]));
    showNumber("spent", front.costs[index], mega(front.costs[index]));
    showNumber("length", front.expected_lengths[index], front.expected_lengths[index].toFixed(2));
    $("budget").setAttribute("aria-valuetext", mega(front.budgets[index]) + " multiply-adds");
    $("exits").replaceChildren(...front.exits[index].map((share, step) => bar("step " + (step + 1), share, false)));
    dot.setAttribute("cx", x(front.costs[index]));
    dot.setAttribute("cy", y(front.accuracies[index]));
  }
  $("budget").max = front.budgets.length - 1;
  $("budget").value = front.start;
  $("budget").addEventListener("input", showBudget);
  showBudget();
})();
