const pixel = new OffscreenCanvas(1, 1).getContext('2d', {willReadFrequently: true});
const read = colour => {
  pixel.clearRect(0, 0, 1, 1);
  pixel.fillStyle = colour;
  pixel.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = pixel.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
const ground = element => {
  const layers = [];
  for (let one = element; one; one = one.parentElement) layers.push(read(getComputedStyle(one).backgroundColor));
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
};
const light = colour => {
  const [r, g, b] = colour.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ratio = (one, other) => {
  const [high, low] = [light(one), light(other)].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = new Set();
let count = 0;
while (walker.nextNode()) {
  const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
  if (!text || ['SCRIPT', 'STYLE', 'TITLE'].includes(element.tagName) || !element.checkVisibility({checkOpacity: true, checkVisibilityCSS: true})) continue;
  if (element.closest('.unseen, .skip, .disabled, [aria-hidden=true][id], .nicegui-error-popup')) continue;
  const style = getComputedStyle(element);
  const below = ground(element);
  const ink = over(read(element instanceof SVGElement ? style.fill : style.color), below);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && +style.fontWeight >= 700);
  const contrast = ratio(ink, below);
  count += 1;
  if (contrast < (large ? 3 : 4.5)) found.add(`${text.slice(0, 40)}: ${contrast.toFixed(2)} in ${element.tagName}.${element.className}`);
}
if (count < 3) found.add(`only ${count} texts were seen`);
return [...found];
