// What the JavaScript workers share; runs in Node and in a browser alike. `read` gives the bytes of a file of
// the job as an ArrayBuffer, `write` keeps bytes or text under a name.
const WARM_UP = 3;

export async function serve(ort, version, providers, read, write) {
  const job = JSON.parse(new TextDecoder().decode(await read("job.json")));
  const raw = await read("images.bin");
  const [count, ...rest] = job.shape;
  const size = rest.reduce((product, side) => product * side, 1);
  const values = job.type === "uint8" ? new Uint8Array(raw) : new Float32Array(raw);
  const image = (index) =>
    new ort.Tensor(job.type, values.subarray(index * size, (index + 1) * size), [1, ...rest]);
  const runs = [], models = [];
  for (const [index, name] of job.models.entries()) {
    try {
      const settings = { executionProviders: providers, intraOpNumThreads: 1, logSeverityLevel: 4,
                         graphOptimizationLevel: "all", extra: nested(job.options[index]) };
      const session = await ort.InferenceSession.create(new Uint8Array(await read(name)), settings);
      const run = async (given) => (await session.run({ [session.inputNames[0]]: given })).logits.data;
      const rows = [];
      for (let each = 0; each < count; each++) rows.push(Float32Array.from(await run(image(each))));
      const joined = new Float32Array(rows.reduce((total, row) => total + row.length, 0));
      rows.forEach((row, place) => joined.set(row, place * row.length));
      await write(`logits.${index}.bin`, joined);
      runs.push(run);
      models.push({ error: null, ms: [] });
    } catch (error) {
      runs.push(null);
      models.push({ error: String(error).slice(0, 600), ms: [] });
    }
  }
  for (let turn = 0; turn < WARM_UP + job.rounds; turn++)
    for (const [index, run] of runs.entries()) {
      if (run === null) continue;
      const start = performance.now();
      await run(image(0));
      if (turn >= WARM_UP) models[index].ms.push(performance.now() - start);
    }
  await write("result.json", JSON.stringify({ version, models }));
}

// {"session.a": "1"} as onnxruntime's JavaScript API takes it: {session: {a: "1"}}
function nested(options) {
  const made = {};
  for (const [key, value] of Object.entries(options)) {
    const parts = key.split(".");
    const last = parts.pop();
    parts.reduce((inner, part) => (inner[part] ??= {}), made)[last] = value;
  }
  return made;
}
