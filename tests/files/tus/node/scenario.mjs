// Uploads with clients that are not ours; what came of each is printed as JSON.
import { readFileSync } from "node:fs";
import Uppy from "@uppy/core";
import UppyTus from "@uppy/tus";
import * as tus from "tus-js-client";

const { endpoint, token, file, chunk } = JSON.parse(process.argv[2]);
const data = readFileSync(file);
const headers = { Authorization: `Bearer ${token}` };
const said = {};

// With tus-js-client: "done", or the status it was refused with. `cut`: stop by force after so many bytes.
function upload(metadata, { cut, uploadUrl, given = data, mine = headers } = {}) {
  return new Promise((resolve) => {
    let fileId = null;
    const made = new tus.Upload(given, {
      endpoint, uploadUrl, headers: mine, metadata, chunkSize: chunk, retryDelays: null,
      onAfterResponse: (request, response) => {
        fileId = response.getHeader("File-Id") ?? fileId;
      },
      onProgress: (sent) => {
        if (cut && sent >= cut) {
          cut = undefined;
          made.abort().then(() => resolve({ cut: true, url: made.url }));
        }
      },
      onSuccess: () => resolve({ done: true, fileId, url: made.url }),
      onError: (error) => resolve({ refused: error.originalResponse?.getStatus() ?? String(error) }),
    });
    made.start();
  });
}

const metadata = { filename: "流水.csv", filetype: "text/csv" };
said.whole = await upload(metadata);
const begun = await upload(metadata, { cut: data.length / 2 });
said.cut = begun.cut === true;
said.resumed = await upload(metadata, { uploadUrl: begun.url });
said.again = await upload(metadata, { uploadUrl: begun.url });
said.kind = await upload({ filename: "a.exe" });
said.nobody = await upload(metadata, { mine: {} });
said.mismatch = await upload({ filename: "a.pdf" }, { given: data.subarray(0, 1000) });
const ended = await upload(metadata, { cut: data.length / 2 });
await tus.Upload.terminate(ended.url, { headers });
said.terminated = (await fetch(ended.url, { method: "HEAD", headers: { ...headers, "Tus-Resumable": "1.0.0" } })).status;

// Uppy is at home in browsers: there a request is an XMLHttpRequest from the beginning, here not before it is sent.
class Stack extends tus.DefaultHttpStack {
  createRequest(method, url) {
    const made = super.createRequest(method, url);
    const own = made.getUnderlyingObject.bind(made);
    made.getUnderlyingObject = () => own() ?? {};
    return made;
  }
}

// It takes what its tus client takes: here a buffer, with the size that it asks a Blob for.
function uppy(name) {
  return new Promise((resolve) => {
    const made = new Uppy({ logger: { debug() {}, warn() {}, error() {} } });
    made.use(UppyTus, {
      endpoint, headers, chunkSize: chunk, retryDelays: [], allowedMetaFields: true, httpStack: new Stack({}),
      onAfterResponse: (request, response) => {
        made.fileId = response.getHeader("File-Id") ?? made.fileId;
      },
    });
    made.addFile({ name, type: "text/csv", data: Object.assign(Buffer.from(data), { size: data.length }) });
    made.upload().then((result) => resolve({
      done: result.successful.length, failed: result.failed.length, fileId: made.fileId ?? null,
      refused: result.failed[0]?.response?.status ?? result.failed[0]?.error ?? null,
    }), (error) => resolve({ broken: String(error) }));
  });
}
said.uppy = await uppy("报表.csv");
said.uppyRefused = await uppy("a.exe");
console.log(JSON.stringify(said));
process.exit(0);
