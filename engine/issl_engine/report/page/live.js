// While a run is under way and a server shows it: new numbers every few seconds, without a reload.

const POLL_MILLISECONDS = 2000;

function lastStep(run) {
  return Math.max(0, ...run.rows.flatMap((row) => row.seeds.map((seed) => seed.curves.step?.at(-1) ?? 0)));
}

function startLive() {
  if (!document.body.hasAttribute("data-live")) return;
  const facts = document.getElementById("facts");
  const sign = make("span", { class: "live", role: "status" });
  facts.after(sign);
  let tag = null;
  const tell = (text, kind = "") => {
    sign.className = `live ${kind}`;
    sign.textContent = text;
  };
  const poll = async () => {
    try {
      const answer = await fetch("data.json", { headers: tag ? { "If-None-Match": tag } : {}, cache: "no-store" });
      if (answer.status === 200) {
        tag = answer.headers.get("ETag");
        const news = await answer.json();
        page.run = news.run;
        facts.textContent = news.facts;
        replaceResults(news.table);
        changed();
      } else if (answer.status !== 304) throw new Error(String(answer.status));
      if (!page.run.under_way) {
        tell(`${page.run.status}; reload for maps and crops`, "done");
        return;
      }
      tell(`live, step ${lastStep(page.run)}`);
    } catch {
      tell("the server does not answer", "lost");
    }
    setTimeout(poll, POLL_MILLISECONDS);
  };
  poll();
}
