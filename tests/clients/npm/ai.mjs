// Vercel's AI SDK, on its defaults; it checks each answer against its own schema, and throws when one does not fit.
// usage: ai.mjs FILE FOLDER, with OPENAI_BASE_URL and OPENAI_API_KEY
import fs from "node:fs";
import path from "node:path";
import { openai } from "@ai-sdk/openai";
import * as ai from "ai";

const transcribe = ai.transcribe ?? ai.experimental_transcribe;
const generateSpeech = ai.generateSpeech ?? ai.experimental_generateSpeech;
const [recording, folder] = process.argv.slice(2);
const hear = (model, options = {}) =>
  transcribe({
    model: openai.transcription(model),
    audio: fs.readFileSync(recording),
    maxRetries: 0,
    providerOptions: { openai: options },
  });

const plain = await hear("whisper-1");
const words = await hear("whisper-1", { timestampGranularities: ["word"] });
const segments = await hear("whisper-1", { timestampGranularities: ["segment"], language: "en", prompt: "Kennedy" });
const successor = await hear("gpt-4o-mini-transcribe");

const speak = async (name, options) => {
  const { audio } = await generateSpeech({
    model: openai.speech("gpt-4o-mini-tts"),
    text: "The quick brown fox jumps over the lazy dog.",
    maxRetries: 0,
    ...options,
  });
  fs.writeFileSync(path.join(folder, name), audio.uint8Array);
  return name;
};

console.log(
  JSON.stringify({
    transcripts: {
      plain: plain.text,
      words: words.text,
      segments: segments.segments.map((segment) => segment.text).join(" "),
      "gpt-4o-mini-transcribe": successor.text,
    },
    speeches: {
      plain: await speak("plain.mp3", {}),
      wav: await speak("wav.wav", { voice: "nova", outputFormat: "wav", instructions: "Slowly." }),
    },
    facts: {
      duration: Math.round(plain.durationInSeconds),
      language: words.language,
      words: words.segments.length > 10,
    },
  }),
);
