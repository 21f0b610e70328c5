// Elements that show an answer: the label with its probability, all probabilities, and what the network sees.

const SHOWN = 20; // classes of a model at most

export function make(tag, text, name) {
  const element = document.createElement(tag);
  if (text !== undefined) element.textContent = text;
  if (name) element.className = name;
  return element;
}

export function percent(share) {
  if (share > 0.999 && share < 1) return "> 99.9 %";
  if (share > 0 && share < 0.001) return "< 0.1 %";
  return `${(share * 100).toFixed(share === 1 ? 0 : 1)} %`;
}

export const likelihood = (answer) => `probability ${percent(answer.probabilities[answer.label])}`;

const UNFAMILIAR = "Unfamiliar: this is unlike what the network has learnt, so do not rely on the answer.";

export function prediction(answer) {
  const said = make("div", undefined, "prediction");
  said.append(make("p", answer.label, answer.label.length > 3 ? "label long" : "label"), make("p", likelihood(answer), "sure"));
  if (answer.unfamiliar) said.append(make("p", UNFAMILIAR, "unfamiliar"));
  return said;
}

export function bars(answer) {
  let classes = Object.entries(answer.probabilities);
  if (classes.length > SHOWN) classes = classes.sort((one, other) => other[1] - one[1]).slice(0, SHOWN);
  const list = make("ul", undefined, "bars");
  list.setAttribute("aria-label", "Probability of each class");
  for (const [name, share] of classes) {
    const line = make("li", undefined, name === answer.label ? "best" : "");
    const bar = make("i");
    bar.style.width = `${share * 100}%`;
    line.append(make("span", name), bar, make("b", percent(share)));
    list.append(line);
  }
  return list;
}

// A canvas of one pixel per value; `colour` returns [red, green, blue] of the pixel at an index.
function pixels(width, height, colour, label) {
  const canvas = make("canvas");
  canvas.width = width;
  canvas.height = height;
  if (label) {
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", label);
  } else canvas.setAttribute("aria-hidden", "true");
  const image = new ImageData(width, height);
  for (let index = 0; index < width * height; index += 1) image.data.set([...colour(index), 255], index * 4);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

export function input(sign, size, label) {
  const channels = sign.shown.length / size ** 2;
  const colour = (index) => [0, 1, 2].map((part) => sign.shown[index * channels + (part % channels)]);
  return pixels(size, size, colour, label);
}

// Orange for what speaks for the label, blue for what speaks against it, on white.
function opinion(share) {
  const [strong, weak] = [1 - Math.min(Math.abs(share) / 100, 1), 1 - Math.min(Math.abs(share) / 170, 1)];
  return share > 0 ? [255 - 50 * (1 - strong), 90 + 165 * weak ** 2, 255 * strong] : [255 * strong, 100 + 155 * weak, 255 - 35 * (1 - strong)];
}

function figure(caption, ...content) {
  const made = make("figure");
  made.append(...content, make("figcaption", caption));
  return made;
}

export function insides(sign, answer) {
  const { inside } = sign;
  const side = `${answer.size}×${answer.size}`;
  const shares = inside.shares.flat();
  const made = [
    figure(`Its input: ${side} pixels (preprocessing: ${answer.preprocessing}).`, input(sign, answer.size, `The network's input, ${side} pixels`)),
    figure(
      `Where it looked: orange pixels speak for ${sign.label} against ${inside.runner_up}, blue ones for ${inside.runner_up}.`,
      pixels(inside.shares[0].length, inside.shares.length, (index) => opinion(shares[index]), "How much each pixel speaks for the answer"),
    ),
  ];
  if (inside.maps.length) {
    const maps = make("div", undefined, "maps");
    for (const map of inside.maps) {
      maps.append(pixels(inside.width, map.length / inside.width, (index) => [map[index], map[index], map[index]]));
    }
    const count = inside.maps.length < inside.channels ? `${inside.maps.length} of ${inside.channels}` : "all";
    made.push(figure(`What its first convolution makes of it: ${count === "all" ? `its ${inside.channels}` : count} maps, light where a filter responds strongly.`, maps));
  }
  return [...made, neighbours(inside.nearest)];
}

function neighbours({ computing, problem, images, size, compared, total, synthetic }) {
  if (computing) return make("p", "Computing which training images are nearest: the first time, this takes some seconds.", "note");
  if (problem) return make("p", `The nearest training images cannot be shown: ${problem}.`, "note");
  const near = make("div", undefined, "near");
  for (const [index, one] of images.entries()) {
    near.append(figure(`${one.label}, ${Number((one.distance < 1e-5 ? 0 : one.distance).toPrecision(3))}`, input(one, size, `Training image ${index + 1}: ${one.label}`)));
  }
  const of = compared < total ? `${compared.toLocaleString("en")} of the ${total.toLocaleString("en")} training images, drawn at random` : `all ${total.toLocaleString("en")} training images`;
  const drawn = synthetic ? " These are SYNTHETIC: letters drawn from fonts." : "";
  return figure(`The nearest training images: those with the most similar inputs to the last layer, with their class and distance. Compared with ${of}.${drawn}`, near);
}
