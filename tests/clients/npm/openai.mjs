// OpenAI's Node client, on its defaults. usage: openai.mjs FILE FOLDER, with OPENAI_BASE_URL and OPENAI_API_KEY
import fs from "node:fs";
import path from "node:path";
import OpenAI, { toFile } from "openai";

const [recording, folder] = process.argv.slice(2);
const client = new OpenAI({ maxRetries: 0 });
const file = () => fs.createReadStream(recording);
const create = (options) => client.audio.transcriptions.create({ model: "whisper-1", ...options });

const models = [];
for await (const model of client.models.list()) models.push(model.id);
const plain = await create({ file: file() });
const verbose = await create({
  file: await toFile(fs.readFileSync(recording), "a.wav"),
  response_format: "verbose_json",
  timestamp_granularities: ["word", "segment"],
});
const events = [];
for await (const event of await create({ file: file(), model: "gpt-4o-transcribe", stream: true, include: ["logprobs"] }))
  events.push(event);
const translated = await client.audio.translations.create({ model: "whisper-1", file: file() });
const srt = await create({ file: file(), response_format: "srt" });
const unknown = await create({ file: file(), model: "no-such-model" }).catch((error) => error);

const speak = async (name, options) => {
  const answer = await client.audio.speech.create({
    model: "gpt-4o-mini-tts",
    voice: "alloy",
    input: "The quick brown fox jumps over the lazy dog.",
    ...options,
  });
  let pieces = 0;
  const spoken = fs.createWriteStream(path.join(folder, name));
  for await (const piece of answer.body) {
    pieces += 1;
    spoken.write(piece);
  }
  await new Promise((done) => spoken.end(done));
  if (!pieces) throw new Error(`nothing came for ${name}`);
  return name;
};

console.log(
  JSON.stringify({
    transcripts: {
      plain: plain.text,
      verbose_json: verbose.text,
      stream: events.filter((event) => event.type === "transcript.text.delta").map((event) => event.delta).join(""),
      srt,
      translation: translated.text,
    },
    speeches: {
      mp3: await speak("mp3.mp3", {}),
      wav: await speak("wav.wav", { voice: "nova", response_format: "wav", model: "tts-1" }),
    },
    facts: {
      models: models.includes("whisper-base"),
      usage: plain.usage.type,
      language: verbose.language,
      words: verbose.words.map((entry) => entry.word).join(" ").includes("what your country can do"),
      done: events.at(-1).type,
      error: [unknown instanceof OpenAI.NotFoundError, unknown.code],
    },
  }),
);
