// llama.cpp through node-llama-cpp, as a peer of tests/bench/inference.py: reads one JSON request a line, answers one.
//   node llama.mjs FOLDER_WITH_node_modules MODEL.gguf
// Requests: {op: "prefill", tokens, threads}                     -> {s}
//           {op: "decode", tokens, count, threads}               -> {s, tokens}   s: of the count tokens alone
//           {op: "answers", prompts, counts, threads, sequences} -> {s, made}     s: prompts and answers of all, so many
//                                                                   at a time in one context, made: tokens of each
//           {op: "perplexity", tokens, from, threads}            -> {nll, count}  of tokens[from..]
// Sequences are empty before each request; times are of the evaluation alone, taken here.
import {createRequire} from "node:module";
import {createInterface} from "node:readline";
import {join} from "node:path";
import {pathToFileURL} from "node:url";

const [folder, file] = process.argv.slice(2);
const require = createRequire(join(folder, "package.json"));
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(require.resolve("node-llama-cpp")));
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error, maxThreads: 0});
const model = await llama.loadModel({modelPath: file, gpuLayers: 0});
const contexts = new Map();

async function sequence(threads) {
    if (!contexts.has(threads)) {
        const context = await model.createContext({contextSize: 2048, batchSize: 512, sequences: 1,
            threads: {ideal: threads, min: threads}});
        contexts.set(threads, context.getSequence());
    }
    const one = contexts.get(threads);
    await one.clearHistory();
    return one;
}

async function pool(threads, sequences) {
    const key = `${threads} x ${sequences}`;
    if (!contexts.has(key)) {
        const context = await model.createContext({contextSize: 1024, batchSize: 512, sequences,
            threads: {ideal: threads, min: threads}});
        contexts.set(key, Array.from({length: sequences}, () => context.getSequence()));
    }
    return contexts.get(key);
}

const seconds = () => Number(process.hrtime.bigint()) / 1e9;

const operations = {
    async prefill({tokens, threads}) {
        const one = await sequence(threads);
        const began = seconds();
        await one.evaluateWithoutGeneratingNewTokens(tokens);
        return {s: seconds() - began};
    },
    async decode({tokens, count, threads}) {
        const one = await sequence(threads);
        const made = [];
        let began = 0;
        for await (const token of one.evaluate(tokens, {temperature: 0, yieldEogToken: true})) {
            if (began === 0) began = seconds();  // the prompt and the first token are not decoding
            made.push(token);
            if (made.length > count) break;
        }
        return {s: seconds() - began, tokens: made};
    },
    async answers({prompts, counts, threads, sequences}) {
        const places = await pool(threads, sequences);
        const made = prompts.map(() => 0);
        let next = 0;
        const began = seconds();
        await Promise.all(places.map(async (place) => {  // evaluations that wait are put into one batch by the context
            while (next < prompts.length) {
                const i = next++;
                await place.clearHistory();
                for await (const _ of place.evaluate(prompts[i], {temperature: 0, yieldEogToken: true})) {
                    made[i]++;
                    if (made[i] >= counts[i]) break;
                }
            }
        }));
        return {s: seconds() - began, made};
    },
    async perplexity({tokens, from, threads}) {
        const one = await sequence(threads);
        let nll = 0, count = 0;
        const step = 64;  // few at a time: each result is a map of the whole vocabulary
        for (let begin = 0; begin < tokens.length; begin += step) {
            const part = tokens.slice(begin, begin + step).map((token, i) => {
                const place = begin + i;
                const wanted = place + 1 >= from && place + 1 < tokens.length;
                return wanted ? [token, {generateNext: {probabilities: true, options: {temperature: 1, topK: 0, topP: 1,
                    minP: 0}}}] : token;
            });
            const found = await one.controlledEvaluate(part, {onTokenResult(i, result) {
                nll -= Math.log(result.next.probabilities.get(tokens[begin + i + 1]));
                count++;
                result.next.probabilities.clear();
            }});
            found.length = 0;
        }
        return {nll, count};
    }
};

process.stdout.write(JSON.stringify({ready: true}) + "\n");
for await (const line of createInterface({input: process.stdin})) {
    const request = JSON.parse(line);
    let answer;
    try {
        answer = await operations[request.op](request);
    } catch (error) {
        answer = {error: String(error)};
    }
    process.stdout.write(JSON.stringify(answer) + "\n");
}
process.exit(0);
