// A person's browser in a few lines: keeps cookies, fills in forms, stops where it is sent away.

const text = (value) =>
  value.replaceAll("&quot;", '"').replaceAll("&#x27;", "'").replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
const attribute = (tag, name) => text(new RegExp(`\\b${name}="([^"]*)"`).exec(tag)?.[1] ?? "");

export class Browser {
  constructor(issuer, login, password) {
    this.origin = new URL(issuer).origin;
    this.login = login;
    this.password = password;
    this.agrees = true;
    this.cookies = new Map();
  }

  async once(url, form) {
    const headers = { cookie: [...this.cookies].map(([k, v]) => `${k}=${v}`).join("; ") };
    if (form) headers.origin = this.origin;
    const answer = await fetch(url, {
      method: form ? "POST" : "GET",
      body: form ? new URLSearchParams(form) : undefined,
      headers,
      redirect: "manual",
    });
    for (const line of answer.headers.getSetCookie()) {
      const [pair] = line.split(";");
      const at = pair.indexOf("=");
      if (pair.slice(at + 1)) this.cookies.set(pair.slice(0, at), pair.slice(at + 1));
      else this.cookies.delete(pair.slice(0, at));
    }
    return answer;
  }

  // Where the browser ends up: {url} at the app, or {status, body} on a page that has nothing to fill in.
  async go(start) {
    let url = String(start);
    let form = null;
    for (let step = 0; step < 12; step++) {
      const answer = await this.once(url, form);
      form = null;
      if (answer.status >= 300 && answer.status < 400) {
        const next = new URL(answer.headers.get("location"), url);
        if (next.origin !== this.origin) return { url: next };
        url = next.href;
        continue;
      }
      const body = await answer.text();
      const found = /<form[^>]*method="post"[^>]*>([\s\S]*?)<\/form>/.exec(body);
      if (answer.status !== 200 || !found) return { status: answer.status, body };
      url = new URL(attribute(found[0].slice(0, found[0].indexOf(">") + 1), "action"), url).href;
      form = {};
      for (const [tag] of found[1].matchAll(/<input[^>]*>/g)) form[attribute(tag, "name")] = attribute(tag, "value");
      const asksPassword = "password" in form;
      if (asksPassword) Object.assign(form, { login: this.login, password: this.password });
      const buttons = [...(found[1].includes("<button") ? found[1] : body).matchAll(/<button[^>]*>/g)].map(([tag]) => tag);
      const no = buttons.find((tag) => attribute(tag, "value") === "deny");
      const away = /href="([^"]*\/abort)"/.exec(body);
      if (!this.agrees && !asksPassword && away) {
        [url, form] = [new URL(text(away[1]), url).href, null];
        continue;
      }
      const button = (!this.agrees && !asksPassword && no) || (buttons[0] ?? "");
      if (attribute(button, "name")) form[attribute(button, "name")] = attribute(button, "value");
    }
    throw new Error("the pages do not end");
  }
}
