CREATE TABLE batcher_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT batcher_version_pkc PRIMARY KEY (version_num)
);

CREATE TABLE ledger_info (
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  CONSTRAINT pk_ledger_info PRIMARY KEY (name)
);

CREATE TABLE price_books (
  price_book_id INTEGER NOT NULL,
  version TEXT NOT NULL,
  sha256 TEXT NOT NULL,
  source TEXT NOT NULL,
  content TEXT NOT NULL,
  CONSTRAINT uq_price_books_sha256 UNIQUE (sha256),
  CONSTRAINT pk_price_books PRIMARY KEY (price_book_id)
);

CREATE TABLE rate_sets (
  rate_set_id INTEGER NOT NULL,
  price_book_id INTEGER NOT NULL,
  price_list TEXT NOT NULL,
  model TEXT NOT NULL,
  terms TEXT NOT NULL,
  valid_from TEXT NOT NULL,
  currency TEXT NOT NULL,
  input_rate INTEGER,
  cache_write_5m_rate INTEGER,
  cache_write_1h_rate INTEGER,
  cache_read_rate INTEGER,
  output_rate INTEGER,
  web_search_rate INTEGER,
  CONSTRAINT uq_rate_sets_price_book_id_price_list_model_terms_valid_from
    UNIQUE (price_book_id, price_list, model, terms, valid_from),
  CONSTRAINT fk_rate_sets_price_book_id FOREIGN KEY (price_book_id) REFERENCES price_books (price_book_id),
  CONSTRAINT pk_rate_sets PRIMARY KEY (rate_set_id)
);

CREATE TABLE ratings (
  rating_id INTEGER NOT NULL,
  price_book_id INTEGER NOT NULL,
  created_at INTEGER NOT NULL,
  reason TEXT NOT NULL,
  position INTEGER,
  run_id INTEGER,
  as_of TEXT, rules INTEGER,
  CONSTRAINT fk_ratings_price_book_id FOREIGN KEY (price_book_id) REFERENCES price_books (price_book_id),
  CONSTRAINT pk_ratings PRIMARY KEY (rating_id)
);

CREATE TABLE closed_months (
  closing_id INTEGER NOT NULL,
  month TEXT NOT NULL,
  rating_id INTEGER NOT NULL,
  closed_at INTEGER NOT NULL,
  reopened_by INTEGER,
  CONSTRAINT fk_closed_months_rating_id FOREIGN KEY (rating_id) REFERENCES ratings (rating_id),
  CONSTRAINT pk_closed_months PRIMARY KEY (closing_id)
);

CREATE TABLE runs (
  run_id INTEGER NOT NULL,
  key TEXT NOT NULL,
  job TEXT,
  created_at INTEGER NOT NULL, round INTEGER DEFAULT '0' NOT NULL,
  CONSTRAINT uq_runs_key UNIQUE (key),
  CONSTRAINT pk_runs PRIMARY KEY (run_id)
);

CREATE TABLE invocations (
  invocation_id INTEGER NOT NULL,
  run_id INTEGER NOT NULL,
  started_at INTEGER NOT NULL,
  ended_at INTEGER,
  exit_code INTEGER,
  clean INTEGER DEFAULT '0' NOT NULL,
  settled_below INTEGER DEFAULT '0' NOT NULL,
  host TEXT NOT NULL,
  pid INTEGER NOT NULL,
  os_user TEXT NOT NULL,
  version TEXT NOT NULL,
  command TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  base_url TEXT NOT NULL,
  lane TEXT NOT NULL,
  simulated INTEGER DEFAULT '0' NOT NULL,
  price_list TEXT,
  settings_digest TEXT NOT NULL,
  options TEXT NOT NULL,
  tags TEXT NOT NULL, fallback_of INTEGER, key_fingerprint TEXT,
  CONSTRAINT fk_invocations_run_id FOREIGN KEY (run_id) REFERENCES runs (run_id),
  CONSTRAINT pk_invocations PRIMARY KEY (invocation_id)
);

CREATE INDEX ix_invocations_run_id ON invocations (run_id);

CREATE TABLE sources (
  source_id INTEGER NOT NULL,
  run_id INTEGER NOT NULL,
  name TEXT NOT NULL,
  location TEXT NOT NULL,
  fingerprint TEXT NOT NULL,
  settings_digest TEXT NOT NULL,
  matched INTEGER NOT NULL,
  rows INTEGER,
  done_ranges TEXT DEFAULT '[]' NOT NULL,
  superseded_by INTEGER,
  CONSTRAINT fk_sources_run_id FOREIGN KEY (run_id) REFERENCES runs (run_id),
  CONSTRAINT pk_sources PRIMARY KEY (source_id)
);

CREATE INDEX ix_sources_run_id ON sources (run_id);

CREATE TABLE attempts (
  attempt_id INTEGER NOT NULL,
  attempt_uid TEXT NOT NULL,
  invocation_id INTEGER NOT NULL,
  request_id INTEGER NOT NULL,
  source_id INTEGER NOT NULL,
  row_number INTEGER NOT NULL,
  byte_offset INTEGER,
  custom_id TEXT,
  params_hash BLOB NOT NULL,
  number INTEGER NOT NULL,
  leg INTEGER NOT NULL,
  purpose TEXT NOT NULL,
  lane TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  state TEXT NOT NULL,
  pending INTEGER NOT NULL,
  opened_at INTEGER NOT NULL,
  sent_at INTEGER,
  settled_at INTEGER,
  http_status INTEGER,
  error_type TEXT,
  error_code TEXT,
  error_message TEXT,
  provider_request_id TEXT,
  cost_low INTEGER NOT NULL,
  cost_high INTEGER,
  workspace_id TEXT, batch_number INTEGER, cache_prefix INTEGER, cache_note TEXT,
  CONSTRAINT fk_attempts_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT fk_attempts_source_id FOREIGN KEY (source_id) REFERENCES sources (source_id),
  CONSTRAINT pk_attempts PRIMARY KEY (attempt_id)
);

CREATE INDEX ix_attempts_not_answered ON attempts (invocation_id, state) WHERE state <> 'answered';

CREATE INDEX ix_attempts_pending ON attempts (invocation_id) WHERE pending = 1;

CREATE TABLE answers (
  attempt_id INTEGER NOT NULL,
  request_id INTEGER NOT NULL,
  run_id INTEGER NOT NULL,
  invocation_id INTEGER NOT NULL,
  source_id INTEGER NOT NULL,
  row_number INTEGER NOT NULL,
  custom_id TEXT,
  params_hash BLOB NOT NULL,
  identity INTEGER NOT NULL,
  final INTEGER NOT NULL,
  requested_model TEXT NOT NULL,
  model TEXT,
  message_id TEXT,
  stop_reason TEXT,
  stop_sequence TEXT,
  stop_details TEXT,
  container_id TEXT,
  text TEXT NOT NULL,
  text_repaired INTEGER NOT NULL,
  content TEXT NOT NULL,
  joined_text TEXT,
  joined_content TEXT,
  input_tokens INTEGER,
  cache_write_tokens INTEGER,
  cache_write_5m_tokens INTEGER,
  cache_write_1h_tokens INTEGER,
  cache_read_tokens INTEGER,
  output_tokens INTEGER,
  thinking_tokens INTEGER,
  web_search_requests INTEGER,
  service_tier TEXT,
  inference_geo TEXT,
  speed TEXT,
  usage TEXT,
  provider_reported_cost TEXT,
  attempts INTEGER NOT NULL,
  legs INTEGER NOT NULL,
  latency_us INTEGER NOT NULL,
  first_token_us INTEGER,
  answered_at INTEGER NOT NULL,
  valid INTEGER,
  invalid_reason TEXT, evidence TEXT, checksum INTEGER,
  CONSTRAINT fk_answers_attempt_id FOREIGN KEY (attempt_id) REFERENCES attempts (attempt_id),
  CONSTRAINT fk_answers_run_id FOREIGN KEY (run_id) REFERENCES runs (run_id),
  CONSTRAINT fk_answers_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT fk_answers_source_id FOREIGN KEY (source_id) REFERENCES sources (source_id),
  CONSTRAINT pk_answers PRIMARY KEY (attempt_id)
);

CREATE INDEX ix_answers_locator ON answers (source_id, row_number) WHERE final = 1;

CREATE INDEX ix_answers_not_final ON answers (request_id) WHERE final = 0;

CREATE TABLE unusable_bodies (
  attempt_id INTEGER NOT NULL,
  body BLOB NOT NULL,
  CONSTRAINT fk_unusable_bodies_attempt_id FOREIGN KEY (attempt_id) REFERENCES attempts (attempt_id),
  CONSTRAINT pk_unusable_bodies PRIMARY KEY (attempt_id)
);

CREATE TABLE tool_results (
  attempt_id INTEGER NOT NULL,
  results TEXT NOT NULL,
  ran_at INTEGER NOT NULL,
  CONSTRAINT fk_tool_results_attempt_id FOREIGN KEY (attempt_id) REFERENCES attempts (attempt_id),
  CONSTRAINT pk_tool_results PRIMARY KEY (attempt_id)
);

CREATE TABLE failures (
  failure_id INTEGER NOT NULL,
  run_id INTEGER NOT NULL,
  invocation_id INTEGER NOT NULL,
  source_id INTEGER NOT NULL,
  row_number INTEGER NOT NULL,
  byte_offset INTEGER,
  custom_id TEXT,
  params_hash BLOB,
  identity INTEGER,
  kind TEXT NOT NULL,
  reason TEXT NOT NULL,
  message TEXT NOT NULL,
  transient INTEGER NOT NULL,
  attempt_id INTEGER,
  failed_at INTEGER NOT NULL,
  CONSTRAINT uq_failures_source_id_row_number UNIQUE (source_id, row_number),
  CONSTRAINT fk_failures_run_id FOREIGN KEY (run_id) REFERENCES runs (run_id),
  CONSTRAINT fk_failures_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT fk_failures_source_id FOREIGN KEY (source_id) REFERENCES sources (source_id),
  CONSTRAINT pk_failures PRIMARY KEY (failure_id)
);

CREATE INDEX ix_failures_identity ON failures (identity);

CREATE TABLE charges (
  attempt_id INTEGER NOT NULL,
  line INTEGER NOT NULL,
  rating_id INTEGER NOT NULL,
  current INTEGER NOT NULL,
  model TEXT,
  rate_set_id INTEGER,
  currency TEXT,
  status TEXT NOT NULL,
  reason TEXT,
  input_quantity INTEGER,
  cache_write_5m_quantity INTEGER,
  cache_write_1h_quantity INTEGER,
  cache_read_quantity INTEGER,
  output_quantity INTEGER,
  web_search_quantity INTEGER,
  input_amount INTEGER,
  cache_write_5m_amount INTEGER,
  cache_write_1h_amount INTEGER,
  cache_read_amount INTEGER,
  output_amount INTEGER,
  web_search_amount INTEGER,
  total_amount INTEGER, high_amount INTEGER,
  CONSTRAINT fk_charges_attempt_id FOREIGN KEY (attempt_id) REFERENCES attempts (attempt_id),
  CONSTRAINT fk_charges_rating_id FOREIGN KEY (rating_id) REFERENCES ratings (rating_id),
  CONSTRAINT fk_charges_rate_set_id FOREIGN KEY (rate_set_id) REFERENCES rate_sets (rate_set_id),
  CONSTRAINT pk_charges PRIMARY KEY (attempt_id, line, rating_id)
);

CREATE TABLE rollups (
  invocation_id INTEGER NOT NULL,
  quarter INTEGER NOT NULL,
  lane TEXT NOT NULL,
  requested_model TEXT NOT NULL,
  model TEXT NOT NULL,
  stop_reason TEXT NOT NULL,
  rating_id INTEGER NOT NULL,
  status TEXT NOT NULL,
  currency TEXT NOT NULL,
  charges INTEGER NOT NULL,
  answers INTEGER NOT NULL,
  final_answers INTEGER NOT NULL,
  input_tokens INTEGER NOT NULL,
  cache_write_5m_tokens INTEGER NOT NULL,
  cache_write_1h_tokens INTEGER NOT NULL,
  cache_read_tokens INTEGER NOT NULL,
  output_tokens INTEGER NOT NULL,
  thinking_tokens INTEGER NOT NULL,
  web_search_requests INTEGER NOT NULL,
  unpriced_answers INTEGER NOT NULL,
  unpriced_tokens INTEGER NOT NULL,
  amount_whole INTEGER NOT NULL,
  amount_rest INTEGER NOT NULL,
  superseded_by INTEGER, assumed_high_whole INTEGER DEFAULT '0' NOT NULL, assumed_high_rest INTEGER DEFAULT '0' NOT NULL,
  CONSTRAINT fk_rollups_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT pk_rollups PRIMARY KEY (
    invocation_id, quarter, lane, requested_model, model, stop_reason, rating_id, status,
    currency
  )
);

CREATE TABLE budgets (
  scope TEXT NOT NULL,
  cap INTEGER NOT NULL,
  granted INTEGER NOT NULL,
  settled INTEGER NOT NULL,
  CONSTRAINT pk_budgets PRIMARY KEY (scope)
);

CREATE TABLE budget_slices (
  scope TEXT NOT NULL,
  invocation_id INTEGER NOT NULL,
  granted INTEGER NOT NULL,
  settled INTEGER NOT NULL,
  CONSTRAINT fk_budget_slices_scope FOREIGN KEY (scope) REFERENCES budgets (scope),
  CONSTRAINT fk_budget_slices_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT pk_budget_slices PRIMARY KEY (scope, invocation_id)
);

CREATE TABLE estimates (
  estimate_id INTEGER NOT NULL,
  run_key TEXT NOT NULL,
  basis TEXT NOT NULL,
  method TEXT NOT NULL,
  input_method TEXT NOT NULL,
  ceiling TEXT NOT NULL,
  made_at INTEGER NOT NULL,
  after_invocation INTEGER NOT NULL,
  sampled INTEGER NOT NULL,
  requests INTEGER NOT NULL,
  unbounded INTEGER NOT NULL,
  expected TEXT,
  low TEXT,
  high TEXT,
  actual TEXT,
  grade TEXT,
  in_doubt_low TEXT,
  in_doubt_high TEXT,
  run_id INTEGER,
  graded_at INTEGER,
  CONSTRAINT pk_estimates PRIMARY KEY (estimate_id)
);

CREATE TABLE reconciliations (
  reconciliation_id INTEGER NOT NULL,
  recorded_at INTEGER NOT NULL,
  recorded_by TEXT NOT NULL,
  endpoint TEXT NOT NULL,
  simulated INTEGER NOT NULL,
  days TEXT NOT NULL,
  files TEXT NOT NULL,
  after_rating INTEGER NOT NULL,
  CONSTRAINT pk_reconciliations PRIMARY KEY (reconciliation_id)
);

CREATE TABLE adjustments (
  adjustment_id INTEGER NOT NULL,
  reconciliation_id INTEGER NOT NULL,
  recorded_at INTEGER NOT NULL,
  recorded_by TEXT NOT NULL,
  day TEXT NOT NULL,
  model TEXT,
  tier TEXT,
  geography TEXT,
  kind TEXT NOT NULL,
  amount INTEGER NOT NULL,
  cause TEXT NOT NULL,
  after_rating INTEGER NOT NULL,
  undoes INTEGER,
  CONSTRAINT fk_adjustments_reconciliation_id FOREIGN KEY (reconciliation_id) REFERENCES reconciliations (reconciliation_id),
  CONSTRAINT uq_adjustments_undoes UNIQUE (undoes),
  CONSTRAINT fk_adjustments_undoes FOREIGN KEY (undoes) REFERENCES adjustments (adjustment_id),
  CONSTRAINT pk_adjustments PRIMARY KEY (adjustment_id)
);

CREATE TABLE leases (
  name TEXT NOT NULL,
  token INTEGER NOT NULL,
  owner TEXT NOT NULL,
  process TEXT NOT NULL,
  invocation_id INTEGER,
  acquired_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  written INTEGER NOT NULL,
  CONSTRAINT pk_leases PRIMARY KEY (name)
);

CREATE TABLE quota_leases (
  fingerprint TEXT NOT NULL,
  model_class TEXT NOT NULL,
  invocation_id INTEGER NOT NULL,
  demand INTEGER NOT NULL,
  share INTEGER NOT NULL,
  paused_until INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  CONSTRAINT pk_quota_leases PRIMARY KEY (fingerprint, model_class, invocation_id)
);

CREATE TABLE shards (
  source_id INTEGER NOT NULL,
  first_row INTEGER NOT NULL,
  last_row INTEGER NOT NULL,
  invocation_id INTEGER NOT NULL,
  done INTEGER NOT NULL,
  CONSTRAINT fk_shards_source_id FOREIGN KEY (source_id) REFERENCES sources (source_id),
  CONSTRAINT fk_shards_invocation_id FOREIGN KEY (invocation_id) REFERENCES invocations (invocation_id),
  CONSTRAINT pk_shards PRIMARY KEY (source_id, first_row)
);

CREATE VIEW v_failures AS
SELECT
  f.run_id, f.invocation_id, r.job, i.endpoint, COALESCE(t.lane, i.lane) AS lane,
  s.name AS source, f.row_number, f.custom_id, f.byte_offset, f.kind, f.reason, f.message,
  f.transient, t.attempt_uid, strftime('%Y-%m-%dT%H:%M:%S', f.failed_at / 1000000, 'unixepoch') || printf('.%06dZ', f.failed_at % 1000000) AS failed_at
FROM failures f
JOIN sources s ON s.source_id = f.source_id
LEFT JOIN runs r ON r.run_id = f.run_id
LEFT JOIN invocations i ON i.invocation_id = f.invocation_id
LEFT JOIN attempts t ON t.attempt_id = f.attempt_id
WHERE s.superseded_by IS NULL;

CREATE TABLE shared_answers (
	shared_id INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	invocation_id INTEGER NOT NULL, 
	source_id INTEGER NOT NULL, 
	row_number INTEGER NOT NULL, 
	custom_id TEXT, 
	params_hash BLOB NOT NULL, 
	identity INTEGER NOT NULL, 
	attempt_id INTEGER NOT NULL, 
	shared_at INTEGER NOT NULL, 
	CONSTRAINT pk_shared_answers PRIMARY KEY (shared_id), 
	CONSTRAINT fk_shared_answers_run_id FOREIGN KEY(run_id) REFERENCES runs (run_id), 
	CONSTRAINT fk_shared_answers_invocation_id FOREIGN KEY(invocation_id) REFERENCES invocations (invocation_id), 
	CONSTRAINT fk_shared_answers_source_id FOREIGN KEY(source_id) REFERENCES sources (source_id), 
	CONSTRAINT fk_shared_answers_attempt_id FOREIGN KEY(attempt_id) REFERENCES answers (attempt_id), 
	CONSTRAINT uq_shared_answers_source_id_row_number UNIQUE (source_id, row_number)
);

CREATE INDEX ix_shared_answers_identity ON shared_answers (identity);

CREATE INDEX ix_shared_answers_attempt_id ON shared_answers (attempt_id);

CREATE INDEX ix_attempts_batch_number ON attempts (batch_number) WHERE batch_number > 0;

CREATE TABLE batches (
	batch_number INTEGER NOT NULL, 
	run_id INTEGER NOT NULL, 
	invocation_id INTEGER NOT NULL, 
	requested_model TEXT NOT NULL, 
	state TEXT NOT NULL, 
	batch_id TEXT, 
	requests INTEGER NOT NULL, 
	intended_at INTEGER NOT NULL, 
	created_at INTEGER, 
	expires_at INTEGER, 
	ended_at INTEGER, 
	closed_at INTEGER, 
	succeeded INTEGER DEFAULT '0' NOT NULL, 
	errored INTEGER DEFAULT '0' NOT NULL, 
	expired INTEGER DEFAULT '0' NOT NULL, 
	canceled INTEGER DEFAULT '0' NOT NULL, 
	CONSTRAINT pk_batches PRIMARY KEY (batch_number), 
	CONSTRAINT fk_batches_run_id FOREIGN KEY(run_id) REFERENCES runs (run_id), 
	CONSTRAINT fk_batches_invocation_id FOREIGN KEY(invocation_id) REFERENCES invocations (invocation_id)
);

CREATE VIEW v_batches AS
SELECT
  b.run_id, b.invocation_id, r.job, i.endpoint, i.lane, b.batch_number, b.batch_id, b.state,
  b.requested_model, strftime('%Y-%m-%dT%H:%M:%S', b.intended_at / 1000000, 'unixepoch') || printf('.%06dZ', b.intended_at % 1000000) AS intended_at, strftime('%Y-%m-%dT%H:%M:%S', b.created_at / 1000000, 'unixepoch') || printf('.%06dZ', b.created_at % 1000000) AS created_at,
  strftime('%Y-%m-%dT%H:%M:%S', b.expires_at / 1000000, 'unixepoch') || printf('.%06dZ', b.expires_at % 1000000) AS expires_at, strftime('%Y-%m-%dT%H:%M:%S', b.ended_at / 1000000, 'unixepoch') || printf('.%06dZ', b.ended_at % 1000000) AS ended_at,
  b.requests, b.succeeded, b.errored, b.expired, b.canceled
FROM batches b
LEFT JOIN runs r ON r.run_id = b.run_id
LEFT JOIN invocations i ON i.invocation_id = b.invocation_id;

CREATE VIEW v_attempts AS
SELECT
  x.run_id, x.invocation_id, x.job, x.endpoint, x.lane, x.source, x.row_number,
  x.custom_id, x.attempt_uid, x.request_id, x.attempt, x.leg, x.purpose, x.state,
  x.requested_model, x.opened_at, x.sent_at, x.settled_at, x.http_status, x.error_type,
  x.error_code, x.error_message, x.provider_request_id, x.workspace_id,
  x.cost_low_pico_usd, x.cost_high_pico_usd,
  x.cost_low_pico_usd / 1e12 AS cost_low_usd,
  x.cost_high_pico_usd / 1e12 AS cost_high_usd,
  x.key_fingerprint
FROM (
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, t.number AS attempt, t.leg, t.purpose, t.state,
  t.requested_model, strftime('%Y-%m-%dT%H:%M:%S', t.opened_at / 1000000, 'unixepoch') || printf('.%06dZ', t.opened_at % 1000000) AS opened_at, strftime('%Y-%m-%dT%H:%M:%S', t.sent_at / 1000000, 'unixepoch') || printf('.%06dZ', t.sent_at % 1000000) AS sent_at,
  strftime('%Y-%m-%dT%H:%M:%S', t.settled_at / 1000000, 'unixepoch') || printf('.%06dZ', t.settled_at % 1000000) AS settled_at, t.http_status, t.error_type, t.error_code, t.error_message,
  t.provider_request_id, t.workspace_id,
  CASE WHEN t.state IN ('answered', 'late') THEN
      (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
      FROM charges c WHERE c.attempt_id = t.attempt_id AND c.current = 1)
    ELSE t.cost_low END AS cost_low_pico_usd,
  CASE WHEN t.state IN ('answered', 'late') THEN
      (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
      FROM charges c WHERE c.attempt_id = t.attempt_id AND c.current = 1)
    ELSE t.cost_high END AS cost_high_pico_usd,
  i.key_fingerprint
FROM attempts t
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
) x;

CREATE VIEW v_charges AS
SELECT
  x.run_id, x.invocation_id, x.job, x.endpoint, x.lane, x.source, x.row_number,
  x.custom_id, x.attempt_uid, x.request_id, x.line, x.model, x.meter, x.quantity, x.rate,
  x.amount, x.currency, x.amount_pico_usd, x.status, x.reason, x.price_book, x.rating,
  x.amount_pico_usd / 1e12 AS amount_usd,
  x.workspace_id, x.key_fingerprint
FROM (
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'input' AS meter, c.input_quantity AS quantity, x.input_rate AS rate, c.input_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.input_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.input_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'cache_write_5m' AS meter, c.cache_write_5m_quantity AS quantity, x.cache_write_5m_rate AS rate, c.cache_write_5m_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.cache_write_5m_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.cache_write_5m_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'cache_write_1h' AS meter, c.cache_write_1h_quantity AS quantity, x.cache_write_1h_rate AS rate, c.cache_write_1h_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.cache_write_1h_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.cache_write_1h_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'cache_read' AS meter, c.cache_read_quantity AS quantity, x.cache_read_rate AS rate, c.cache_read_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.cache_read_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.cache_read_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'output' AS meter, c.output_quantity AS quantity, x.output_rate AS rate, c.output_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.output_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.output_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'web_search' AS meter, c.web_search_quantity AS quantity, x.web_search_rate AS rate, c.web_search_amount AS amount,
  c.currency, CASE WHEN c.currency = 'USD' THEN c.web_search_amount END AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.web_search_quantity > 0
UNION ALL
SELECT
  i.run_id, t.invocation_id, r.job, i.endpoint, t.lane, s.name AS source, t.row_number,
  t.custom_id, t.attempt_uid, t.request_id, c.line, c.model,
  'unknown' AS meter, NULL AS quantity, NULL AS rate, NULL AS amount,
  c.currency, NULL AS amount_pico_usd,
  c.status, c.reason, b.version AS price_book, c.rating_id AS rating,
  t.workspace_id, i.key_fingerprint
FROM charges c
JOIN attempts t ON t.attempt_id = c.attempt_id
JOIN sources s ON s.source_id = t.source_id
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN runs r ON r.run_id = i.run_id
LEFT JOIN ratings g ON g.rating_id = c.rating_id
LEFT JOIN price_books b ON b.price_book_id = g.price_book_id
LEFT JOIN rate_sets x ON x.rate_set_id = c.rate_set_id
WHERE c.current = 1 AND c.status IN ('unpriced', 'assumed') AND COALESCE(c.input_quantity, 0) = 0 AND COALESCE(c.cache_write_5m_quantity, 0) = 0 AND COALESCE(c.cache_write_1h_quantity, 0) = 0 AND COALESCE(c.cache_read_quantity, 0) = 0 AND COALESCE(c.output_quantity, 0) = 0 AND COALESCE(c.web_search_quantity, 0) = 0
) x;

CREATE INDEX ix_answers_invalid ON answers (attempt_id) WHERE valid = 0;

CREATE VIEW v_answers AS
SELECT
  x.run_id, x.invocation_id, x.job, x.endpoint, x.lane, x.source, x.row_number,
  x.custom_id, x.attempt_uid, x.request_id, x.final, x.state, x.leg, x.requested_model,
  x.model, x.message_id, x.stop_reason, x.stop_sequence, x.stop_details, x.text,
  x.text_repaired, x.content, x.valid, x.invalid_reason, x.input_tokens,
  x.cache_write_tokens, x.cache_write_5m_tokens, x.cache_write_1h_tokens,
  x.cache_read_tokens, x.output_tokens, x.thinking_tokens, x.web_search_requests,
  x.service_tier, x.inference_geo, x.speed, x.attempts, x.legs, x.latency_ms,
  x.first_token_ms, x.answered_at, x.cost_pico_usd, x.cost_status,
  x.provider_reported_cost, x.paid_by_attempt_uid, x.trust, x.cost_usd,
  x.cost_low_pico_usd, x.cost_high_pico_usd,
  x.container_id,
  CASE WHEN instr(x.content, '"thinking"') > 0 AND json_valid(x.content)
      AND x.content NOT GLOB '*\u[dD][89a-fA-F]*' AND instr(x.content, '\u0000') = 0 THEN
    (SELECT group_concat(json_extract(b.value, '$.thinking'), char(10)) FROM json_each(x.content) b
    WHERE json_extract(b.value, '$.type') = 'thinking') END AS thinking,
  x.cost_low_pico_usd / 1e12 AS cost_low_usd,
  x.cost_high_pico_usd / 1e12 AS cost_high_usd,
  x.workspace_id, x.key_fingerprint
FROM (
SELECT
  h.run_id, h.invocation_id, r.job, i.endpoint, t.lane, h.source,
  h.row_number, h.custom_id, CASE WHEN h.is_shared = 0 THEN t.attempt_uid END AS attempt_uid,
  CASE WHEN h.is_shared = 0 THEN a.request_id END AS request_id, a.final, t.state, t.leg,
  a.requested_model, a.model, a.message_id, a.stop_reason, a.stop_sequence, a.stop_details,
  COALESCE(a.joined_text, a.text) AS text, a.text_repaired,
  COALESCE(a.joined_content, a.content) AS content, a.valid, a.invalid_reason,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.input_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.input_tokens END AS input_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_tokens END AS cache_write_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_5m_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_5m_tokens END AS cache_write_5m_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_write_1h_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_write_1h_tokens END AS cache_write_1h_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.cache_read_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.cache_read_tokens END AS cache_read_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.output_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.output_tokens END AS output_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.thinking_tokens) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.thinking_tokens END AS thinking_tokens,
  CASE WHEN a.legs > 1 THEN (SELECT CAST(SUM(l.web_search_requests) AS bigint)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE a.web_search_requests END AS web_search_requests,
  a.service_tier, a.inference_geo, a.speed, a.attempts, a.legs,
  a.latency_us / 1000 AS latency_ms, a.first_token_us / 1000 AS first_token_ms,
  strftime('%Y-%m-%dT%H:%M:%S', a.answered_at / 1000000, 'unixepoch') || printf('.%06dZ', a.answered_at % 1000000) AS answered_at,
  CASE WHEN h.is_shared = 1 THEN 0 ELSE CASE WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END
    ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END END AS cost_pico_usd,
  CASE WHEN h.is_shared = 1 THEN 'unbilled' ELSE CASE CASE WHEN a.legs > 1 THEN (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END
    ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END END AS cost_status,
  CASE WHEN h.is_shared = 0 THEN a.provider_reported_cost END AS provider_reported_cost,
  CASE WHEN h.is_shared = 1 THEN t.attempt_uid END AS paid_by_attempt_uid,
  CASE WHEN h.is_shared = 1 THEN 'unbilled' ELSE CASE CASE WHEN a.legs > 1 THEN (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END
    ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END END AS trust, CASE WHEN h.is_shared = 1 THEN 0 ELSE CASE WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END
    ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END END / 1e12 AS cost_usd,
  CASE WHEN h.is_shared = 1 THEN 0 ELSE CASE WHEN a.legs > 1 THEN (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN COALESCE(CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END, 0)
    ELSE (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END END AS cost_low_pico_usd, CASE WHEN h.is_shared = 1 THEN 0 ELSE CASE WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered') ELSE CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' AND o.total_amount IS NOT NULL THEN COALESCE(o.high_amount, o.total_amount) END
    ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END END AS cost_high_pico_usd, a.container_id,
  CASE WHEN h.is_shared = 0 THEN t.workspace_id END AS workspace_id,
  CASE WHEN h.is_shared = 0 THEN i.key_fingerprint END AS key_fingerprint
FROM (SELECT
    a.run_id, a.invocation_id, s.name AS source, a.row_number, a.custom_id, a.attempt_id,
    0 AS is_shared
  FROM sources s CROSS JOIN answers a
  WHERE a.source_id = s.source_id AND a.final = 1 AND s.superseded_by IS NULL
  UNION ALL
  SELECT
    h.run_id, h.invocation_id, s.name, h.row_number, h.custom_id, h.attempt_id, 1
  FROM sources s CROSS JOIN shared_answers h
  WHERE h.source_id = s.source_id AND s.superseded_by IS NULL) h
CROSS JOIN answers a ON a.attempt_id = h.attempt_id
LEFT JOIN runs r ON r.run_id = h.run_id
LEFT JOIN invocations i ON i.invocation_id = h.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
LEFT JOIN charges o ON o.attempt_id = a.attempt_id AND o.line = 0 AND o.current = 1
LEFT JOIN charges more
  ON more.attempt_id = a.attempt_id AND more.line = 1 AND more.current = 1
) x;

CREATE VIEW v_answers_all AS
SELECT
  x.run_id, x.invocation_id, x.job, x.endpoint, x.lane, x.source, x.row_number,
  x.custom_id, x.attempt_uid, x.request_id, x.final, x.state, x.leg, x.requested_model,
  x.model, x.message_id, x.stop_reason, x.stop_sequence, x.stop_details, x.text,
  x.text_repaired, x.content, x.valid, x.invalid_reason, x.input_tokens,
  x.cache_write_tokens, x.cache_write_5m_tokens, x.cache_write_1h_tokens,
  x.cache_read_tokens, x.output_tokens, x.thinking_tokens, x.web_search_requests,
  x.service_tier, x.inference_geo, x.speed, x.attempts, x.legs, x.latency_ms,
  x.first_token_ms, x.answered_at, x.cost_pico_usd, x.cost_status,
  x.provider_reported_cost, x.paid_by_attempt_uid, x.trust, x.cost_usd,
  x.cost_low_pico_usd, x.cost_high_pico_usd,
  x.container_id,
  CASE WHEN instr(x.content, '"thinking"') > 0 AND json_valid(x.content)
      AND x.content NOT GLOB '*\u[dD][89a-fA-F]*' AND instr(x.content, '\u0000') = 0 THEN
    (SELECT group_concat(json_extract(b.value, '$.thinking'), char(10)) FROM json_each(x.content) b
    WHERE json_extract(b.value, '$.type') = 'thinking') END AS thinking,
  x.cost_low_pico_usd / 1e12 AS cost_low_usd,
  x.cost_high_pico_usd / 1e12 AS cost_high_usd,
  x.workspace_id, x.key_fingerprint
FROM (
SELECT
  a.run_id, a.invocation_id, r.job, i.endpoint, t.lane, s.name AS source,
  a.row_number, a.custom_id, t.attempt_uid, a.request_id, a.final, t.state, t.leg,
  a.requested_model, a.model, a.message_id, a.stop_reason, a.stop_sequence, a.stop_details,
  a.text AS text, a.text_repaired, a.content AS content, a.valid, a.invalid_reason,
  a.input_tokens,
  a.cache_write_tokens,
  a.cache_write_5m_tokens,
  a.cache_write_1h_tokens,
  a.cache_read_tokens,
  a.output_tokens,
  a.thinking_tokens,
  a.web_search_requests,
  a.service_tier, a.inference_geo, a.speed, a.attempts, a.legs,
  a.latency_us / 1000 AS latency_ms, a.first_token_us / 1000 AS first_token_ms,
  strftime('%Y-%m-%dT%H:%M:%S', a.answered_at / 1000000, 'unixepoch') || printf('.%06dZ', a.answered_at % 1000000) AS answered_at,
  CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END
    ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END AS cost_pico_usd,
  CASE CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END
    ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END AS cost_status,
  a.provider_reported_cost AS provider_reported_cost, CAST(NULL AS text) AS paid_by_attempt_uid,
  CASE CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END
    ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END WHEN 1 THEN 'unbilled' WHEN 2 THEN 'priced' WHEN 3 THEN 'assumed' ELSE 'unpriced' END AS trust, CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END
    ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END / 1e12 AS cost_usd,
  CASE WHEN more.line IS NULL THEN COALESCE(CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END, 0)
    ELSE (SELECT COALESCE(CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint), 0)
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END AS cost_low_pico_usd, CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' AND o.total_amount IS NOT NULL THEN COALESCE(o.high_amount, o.total_amount) END
    ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END AS cost_high_pico_usd, a.container_id,
  t.workspace_id, i.key_fingerprint
FROM answers a
JOIN sources s ON s.source_id = a.source_id
LEFT JOIN runs r ON r.run_id = a.run_id
LEFT JOIN invocations i ON i.invocation_id = a.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
LEFT JOIN charges o ON o.attempt_id = a.attempt_id AND o.line = 0 AND o.current = 1
LEFT JOIN charges more
  ON more.attempt_id = a.attempt_id AND more.line = 1 AND more.current = 1
WHERE t.state <> 'partial'
) x;

CREATE VIEW v_cost_by_model_day AS
SELECT
  x.day, x.endpoint, x.model, x.requests, x.attempts, x.input_tokens, x.cache_write_tokens,
  x.cache_write_5m_tokens, x.cache_write_1h_tokens, x.cache_read_tokens, x.output_tokens,
  x.thinking_tokens, x.web_search_requests, x.cost_pico_usd, x.in_doubt_low_pico_usd,
  x.in_doubt_high_pico_usd, x.in_doubt_unbounded, x.unpriced_requests, x.assumed_requests,
  x.assumed_low_pico_usd, x.assumed_high_pico_usd,
  x.cost_pico_usd / 1e12 AS cost_usd,
  x.in_doubt_low_pico_usd / 1e12 AS in_doubt_low_usd,
  x.in_doubt_high_pico_usd / 1e12 AS in_doubt_high_usd,
  x.assumed_low_pico_usd / 1e12 AS assumed_low_usd,
  x.assumed_high_pico_usd / 1e12 AS assumed_high_usd
FROM (
SELECT
  strftime('%Y-%m-%d', COALESCE(t.sent_at, t.opened_at) / 1000000, 'unixepoch') AS day, i.endpoint, COALESCE(a.model, t.requested_model) AS model,
  COUNT(CASE WHEN a.final = 1 THEN 1 END) AS requests,
  COUNT(*) AS attempts,
  CAST(SUM(a.input_tokens) AS bigint) AS input_tokens,
  CAST(SUM(a.cache_write_tokens) AS bigint) AS cache_write_tokens,
  CAST(SUM(a.cache_write_5m_tokens) AS bigint) AS cache_write_5m_tokens,
  CAST(SUM(a.cache_write_1h_tokens) AS bigint) AS cache_write_1h_tokens,
  CAST(SUM(a.cache_read_tokens) AS bigint) AS cache_read_tokens,
  CAST(SUM(a.output_tokens) AS bigint) AS output_tokens,
  CAST(SUM(a.thinking_tokens) AS bigint) AS thinking_tokens,
  CAST(SUM(a.web_search_requests) AS bigint) AS web_search_requests,
  CASE WHEN COUNT(a.attempt_id) = 0 THEN 0
    ELSE CAST(SUM(CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END
    ELSE (SELECT SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END) AS bigint) END AS cost_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN a.attempt_id IS NULL THEN t.cost_low END), 0) AS bigint)
    AS in_doubt_low_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN a.attempt_id IS NULL THEN t.cost_high END), 0) AS bigint)
    AS in_doubt_high_pico_usd,
  COUNT(CASE WHEN a.attempt_id IS NULL AND t.cost_high IS NULL THEN 1 END)
    AS in_doubt_unbounded,
  COUNT(DISTINCT CASE WHEN CASE WHEN more.line IS NULL THEN CASE o.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END
    ELSE (SELECT MAX(CASE c.status WHEN 'unbilled' THEN 1 WHEN 'priced' THEN 2 WHEN 'assumed' THEN 3 ELSE 4 END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END IN (1, 2, 3) THEN NULL
    ELSE a.request_id END) AS unpriced_requests,
  COUNT(DISTINCT CASE WHEN CASE WHEN more.line IS NULL THEN o.status = 'assumed'
    ELSE EXISTS (SELECT 1 FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1 AND c.status = 'assumed') END
    THEN a.request_id END) AS assumed_requests,
  CAST(COALESCE(SUM(CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'assumed' THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END END
    ELSE (SELECT SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1 AND c.status = 'assumed') END), 0) AS bigint)
    AS assumed_low_pico_usd,
  CAST(COALESCE(SUM(CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'assumed' THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN COALESCE(o.high_amount, o.total_amount) END END
    ELSE (SELECT SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN COALESCE(c.high_amount, c.total_amount) END) FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1 AND c.status = 'assumed') END), 0) AS bigint)
    AS assumed_high_pico_usd
FROM attempts t
LEFT JOIN invocations i ON i.invocation_id = t.invocation_id
LEFT JOIN answers a ON a.attempt_id = t.attempt_id AND t.state <> 'partial'
LEFT JOIN charges o ON o.attempt_id = a.attempt_id AND o.line = 0 AND o.current = 1
LEFT JOIN charges more
  ON more.attempt_id = a.attempt_id AND more.line = 1 AND more.current = 1
GROUP BY 1, 2, 3
) x;

CREATE VIEW v_texts AS
SELECT
  h.run_id, h.invocation_id, r.job, i.endpoint, t.lane, h.source, h.row_number, h.custom_id,
  COALESCE(a.joined_text, a.text) AS text, a.model, a.stop_reason,
  CASE WHEN h.is_shared = 1 THEN 0
    WHEN a.legs > 1 THEN (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM answers l JOIN attempts lt ON lt.attempt_id = l.attempt_id
    LEFT JOIN charges c ON c.attempt_id = l.attempt_id AND c.current = 1
    WHERE (l.attempt_id = a.attempt_id OR
      (l.final = 0 AND l.request_id = a.request_id
        AND l.stop_reason IN ('pause_turn', 'compaction', 'tool_use')))
      AND lt.state = 'answered')
    ELSE CASE WHEN more.line IS NULL THEN CASE WHEN o.status = 'unbilled' THEN COALESCE(o.total_amount, 0) WHEN o.currency = 'USD' THEN o.total_amount END
    ELSE (SELECT CASE WHEN COUNT(*) = COUNT(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) THEN CAST(SUM(CASE WHEN c.status = 'unbilled' THEN COALESCE(c.total_amount, 0) WHEN c.currency = 'USD' THEN c.total_amount END) AS bigint) END
    FROM charges c WHERE c.attempt_id = a.attempt_id AND c.current = 1) END END / 1e12 AS cost_usd
FROM (SELECT
    a.run_id, a.invocation_id, s.name AS source, a.row_number, a.custom_id, a.attempt_id,
    0 AS is_shared
  FROM sources s CROSS JOIN answers a
  WHERE a.source_id = s.source_id AND a.final = 1 AND s.superseded_by IS NULL
  UNION ALL
  SELECT
    h.run_id, h.invocation_id, s.name, h.row_number, h.custom_id, h.attempt_id, 1
  FROM sources s CROSS JOIN shared_answers h
  WHERE h.source_id = s.source_id AND s.superseded_by IS NULL) h
CROSS JOIN answers a ON a.attempt_id = h.attempt_id
LEFT JOIN runs r ON r.run_id = h.run_id
LEFT JOIN invocations i ON i.invocation_id = h.invocation_id
LEFT JOIN attempts t ON t.attempt_id = a.attempt_id
LEFT JOIN charges o ON o.attempt_id = a.attempt_id AND o.line = 0 AND o.current = 1
LEFT JOIN charges more
  ON more.attempt_id = a.attempt_id AND more.line = 1 AND more.current = 1;

INSERT INTO batcher_version (version_num) VALUES ('0015');

