/** One tooltip for the whole page: elements with "data-tip" show it on hover and on focus. */

const tip = element("div", { class: "tip", "aria-hidden": "true", hidden: true });
const GAP = 8;

/** Listen for the events that show or hide the tooltip. */
function watchTips() {
  document.body.append(tip);
  document.addEventListener("pointerover", (event) => tipOf(event.target));
  document.addEventListener("focusin", (event) => {
    if (event.target.matches(":focus-visible")) tipOf(event.target);
  });
  document.addEventListener("focusout", hideTip);
  document.addEventListener("scroll", followFocus, { capture: true, passive: true });
  window.addEventListener("resize", hideTip);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") hideTip();
  });
}

/** Show a text above a box in the window, or below it if there is no room. */
function showTip(text, box) {
  tip.textContent = text;
  tip.hidden = false;
  // At the right edge of the window, the measured width of the tooltip would be too small.
  tip.style.setProperty("left", "0px");
  const { width, height } = tip.getBoundingClientRect();
  const middle = (box.left + box.right) / 2 - width / 2;
  const left = Math.max(GAP, Math.min(middle, document.documentElement.clientWidth - width - GAP));
  const above = box.top - height - GAP;
  tip.style.setProperty("left", `${left}px`);
  tip.style.setProperty("top", `${above >= 0 ? above : box.bottom + GAP}px`);
}

function hideTip() {
  tip.hidden = true;
}

/** Keep only the tooltip of the focused element after scrolling, which focus may cause. */
function followFocus() {
  const focused = document.activeElement;
  if (!tip.hidden && focused?.matches("[data-tip]:focus-visible")) tipOf(focused);
  else hideTip();
}

function tipOf(target) {
  const found = target.closest?.("[data-tip]");
  if (found) showTip(found.dataset.tip, found.getBoundingClientRect());
  else hideTip();
}
