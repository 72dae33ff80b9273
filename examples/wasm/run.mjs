// Runs the digits network in WebAssembly on every path that the module has, in both layouts:
//
//     node run.mjs MODULE.wasm PATH...
//
// The paths named are those that the module must have, the one that it chooses last. Every path
// must compute the checksum that every machine computes.

import { readFile } from "node:fs/promises";

const CHECKSUM = "9feb374cf631d43f";
const [file, ...expected] = process.argv.slice(2);
const { instance } = await WebAssembly.instantiate(await readFile(file));
const wasm = instance.exports;

function name(path) {
  const bytes = new Uint8Array(wasm.memory.buffer, wasm.path_name(path), wasm.path_name_len(path));
  return new TextDecoder().decode(bytes);
}

function fail(message) {
  console.error(`FAILED: ${message}`);
  process.exit(1);
}

console.log("time per image      NCHW        NHWC");
const found = [];
for (let path = 0; path < wasm.path_count(); path++) {
  if (!wasm.path_is_available(path)) {
    console.log(`${name(path).padEnd(12)}SKIPPED: this machine or this build lacks it`);
    continue;
  }
  found.push(name(path));
  let line = name(path).padEnd(12);
  for (const channelsLast of [0, 1]) {
    let best = Infinity;
    for (let run = 0; run < 10; run++) {
      const begin = performance.now();
      const checksum = BigInt.asUintN(64, wasm.checksum(path, channelsLast)).toString(16);
      best = Math.min(best, performance.now() - begin);
      if (checksum !== CHECKSUM) fail(`${name(path)}: checksum ${checksum}, not ${CHECKSUM}`);
    }
    line += `${((best * 1e3) / wasm.image_count()).toFixed(2).padStart(9)} us`;
  }
  console.log(line);
}
if (found.join() !== expected.join()) fail(`paths: ${found}; expected ${expected}`);
const detected = name(wasm.path_detected());
if (detected !== expected.at(-1)) fail(`${detected} is chosen, not ${expected.at(-1)}`);
console.log(`checksum of the logits on every path: ${CHECKSUM}`);
