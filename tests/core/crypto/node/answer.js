// Reads requests (JSON, hex inside), answers each with sm-crypto-v2: the library that pages in browsers use.
const { sm2, sm3, sm4 } = require("sm-crypto-v2");

const bytes = (hex) => Uint8Array.from(Buffer.from(hex, "hex"));
const hex = (data) => (typeof data === "string" ? data : Buffer.from(data).toString("hex"));

const verbs = {
  sm3: ({ data }) => sm3(bytes(data)),
  hmac: ({ key, data }) => sm3(bytes(data), { key: bytes(key) }),
  generate: () => sm2.generateKeyPairHex(),
  sign: ({ key, data, id, der }) => sm2.doSignature(bytes(data), key, { hash: true, der, userId: id }),
  verify: ({ point, data, signature, id, der }) =>
    sm2.doVerifySignature(bytes(data), signature, point, { hash: true, der, userId: id }),
  encrypt: ({ point, data }) => sm2.doEncrypt(bytes(data), point, 1),
  decrypt: ({ key, data }) => hex(sm2.doDecrypt(data, key, 1, { output: "array" })),
  seal: ({ key, nonce, data, aad }) => {
    const made = sm4.encrypt(bytes(data), bytes(key), {
      mode: "gcm", padding: "none", iv: bytes(nonce), associatedData: bytes(aad), output: "array", outputTag: true,
    });
    return hex(made.output) + hex(made.tag);
  },
};

let text = "";
process.stdin.on("data", (part) => (text += part));
process.stdin.on("end", () => {
  const answers = JSON.parse(text).map(({ verb, ...given }) => verbs[verb](given));
  process.stdout.write(JSON.stringify(answers));
});
