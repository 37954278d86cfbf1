// Computes networks that gan/pages/portable.py describes. Images and features lie as in Keras: row by row, channels last.
"use strict";

const network = (() => {
  // how many columns a weighted layer's matrix has, and rows, of which the last is the bias
  const shapeOf = (layer) => [
    layer.kind === "dense" ? layer.inputs + 1 : layer.size * layer.size * layer.inputs + 1,
    layer.outputs,
  ];
  const weighted = (layer) => layer.kind === "dense" || layer.kind === "convolution";

  // whole numbers, low and high bytes, with the sign in the lowest bit; each column has a step of its own
  function unpack(layers, low, high, steps) {
    let start = 0;
    let column = 0;
    return layers.map((layer) => {
      if (!weighted(layer)) return null;
      const [rows, columns] = shapeOf(layer);
      const weights = new Float32Array(rows * columns);
      for (let i = 0; i < weights.length; i++) {
        const code = low[start + i] | (high[start + i] << 8);
        weights[i] = (code & 1 ? -(code + 1) / 2 : code / 2) * steps[column + (i % columns)];
      }
      start += weights.length;
      column += columns;
      return weights;
    });
  }

  function dense(layer, weights, input) {
    const { inputs, outputs } = layer;
    const output = weights.slice(inputs * outputs);
    for (let i = 0; i < inputs; i++) {
      const value = input[i];
      if (value === 0) continue;
      const row = i * outputs;
      for (let o = 0; o < outputs; o++) output[o] += value * weights[row + o];
    }
    return output;
  }

  // "same" padding: what is missing is split, the odd one at the end
  function convolution(layer, weights, input) {
    const { height, width, inputs, outputs, size, stride } = layer;
    const rows = Math.ceil(height / stride);
    const columns = Math.ceil(width / stride);
    const above = Math.max(0, (rows - 1) * stride + size - height) >> 1;
    const left = Math.max(0, (columns - 1) * stride + size - width) >> 1;
    const bias = weights.subarray(size * size * inputs * outputs);
    const output = new Float32Array(rows * columns * outputs);
    const sums = new Float32Array(outputs);
    for (let y = 0; y < rows; y++) {
      for (let x = 0; x < columns; x++) {
        sums.set(bias);
        for (let dy = 0; dy < size; dy++) {
          const fromY = y * stride + dy - above;
          if (fromY < 0 || fromY >= height) continue;
          for (let dx = 0; dx < size; dx++) {
            const fromX = x * stride + dx - left;
            if (fromX < 0 || fromX >= width) continue;
            const pixel = (fromY * width + fromX) * inputs;
            const tap = (dy * size + dx) * inputs;
            // four inputs at once, so that the sums are read and written a quarter as often
            let i = 0;
            for (; i + 4 <= inputs; i += 4) {
              const [a, b, c, d] = [input[pixel + i], input[pixel + i + 1], input[pixel + i + 2], input[pixel + i + 3]];
              const row = (tap + i) * outputs;
              for (let o = 0; o < outputs; o++) {
                const w = row + o;
                sums[o] += a * weights[w] + b * weights[w + outputs] + c * weights[w + 2 * outputs] + d * weights[w + 3 * outputs];
              }
            }
            for (; i < inputs; i++) {
              const value = input[pixel + i];
              const row = (tap + i) * outputs;
              for (let o = 0; o < outputs; o++) sums[o] += value * weights[row + o];
            }
          }
        }
        output.set(sums, (y * columns + x) * outputs);
      }
    }
    return output;
  }

  // [height, width, 4 n] -> [2 height, 2 width, n]
  function depthToSpace({ height, width, inputs }, input) {
    const outputs = inputs / 4;
    const output = new Float32Array(input.length);
    for (let y = 0; y < 2 * height; y++) {
      for (let x = 0; x < 2 * width; x++) {
        const from = ((y >> 1) * width + (x >> 1)) * inputs + ((y & 1) * 2 + (x & 1)) * outputs;
        for (let o = 0; o < outputs; o++) output[(y * 2 * width + x) * outputs + o] = input[from + o];
      }
    }
    return output;
  }

  function maxPool({ height, width, inputs }, input) {
    const columns = (width + 1) >> 1;
    const output = new Float32Array(((height + 1) >> 1) * columns * inputs).fill(-Infinity);
    for (let y = 0; y < height; y++) {
      for (let x = 0; x < width; x++) {
        for (let i = 0; i < inputs; i++) {
          const to = ((y >> 1) * columns + (x >> 1)) * inputs + i;
          output[to] = Math.max(output[to], input[(y * width + x) * inputs + i]);
        }
      }
    }
    return output;
  }

  function softmax(input) {
    const largest = Math.max(...input);
    const powers = input.map((value) => Math.exp(value - largest));
    const sum = powers.reduce((before, power) => before + power, 0);
    return powers.map((power) => power / sum);
  }

  const kinds = {
    dense,
    convolution,
    leaky_relu: ({ slope }, _, input) => {
      const output = new Float32Array(input.length);
      for (let i = 0; i < input.length; i++) output[i] = input[i] < 0 ? slope * input[i] : input[i];
      return output;
    },
    depth_to_space: (layer, _, input) => depthToSpace(layer, input),
    max_pool: (layer, _, input) => maxPool(layer, input),
    tanh: (layer, _, input) => input.map(Math.tanh),
    softmax: (layer, _, input) => softmax(input),
  };

  // input and output are Float32Array; weights come from unpack
  const run = (layers, weights, input) =>
    layers.reduce((values, layer, index) => kinds[layer.kind](layer, weights[index], values), input);

  return { run, unpack };
})();
