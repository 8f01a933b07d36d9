BEGIN TRANSACTION;
CREATE TABLE api_keys (
	id VARCHAR(16) NOT NULL, 
	tenant VARCHAR(63) NOT NULL, 
	role VARCHAR(16) NOT NULL, 
	secret_sha256 VARCHAR(64) NOT NULL, 
	created_at VARCHAR(32) NOT NULL, 
	revoked_at VARCHAR(32), 
	PRIMARY KEY (id)
);
INSERT INTO "api_keys" VALUES('b71a4d324ffd39bc','operator','operator','e5cbd72ed98bf38766232a22a89b9e81966fc11773d67aa00b88e1f5ef2d5582','2026-11-28T08:47:19.252Z',NULL);
INSERT INTO "api_keys" VALUES('6de9aa2a9db612bc','owner','owner','c95d176618462decaa4a845f08fc1c462692344335237f0a0dc027f8cbb308fa','2026-11-28T08:47:19.261Z',NULL);
INSERT INTO "api_keys" VALUES('1cf68e9409023748','op','operator','a8649bf483fb34938df971fdb9ac1a87568c23097fa1e2c77fc96641e01f9694','2026-11-28T08:47:19.402Z',NULL);
INSERT INTO "api_keys" VALUES('d78fa8d39759bf33','hospital','owner','f1eea507b9a06299c821f6afd6d2d0344fa4f8cdd7e79f9cf23e9a7e48210bef','2026-11-28T08:47:19.409Z',NULL);
INSERT INTO "api_keys" VALUES('043c764d806bba5a','rival','owner','6944887c64678110db71f5c16c04e04515b2f7caaa0330d3528826ca059a303c','2026-11-28T08:47:19.413Z',NULL);
CREATE TABLE builders (
	sha256 VARCHAR(64) NOT NULL, 
	tenant VARCHAR(63) NOT NULL, 
	size BIGINT NOT NULL, 
	manifest TEXT NOT NULL, 
	capabilities TEXT NOT NULL, 
	created_at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (sha256)
);
INSERT INTO "builders" VALUES('1dd0456ea614e44a3b8bdd1e24d919ab5a4d603c8068c5c81f8289d44979093f','op',802,'{"description":"","envelope":{"max_graph_bytes":262144,"max_parameters":1000,"max_steps":20000},"max_input_elements":64,"name":"tiny","tasks":["classification"],"version":"1.0"}','["log"]','2026-11-28T08:47:20.008Z');
CREATE TABLE chunks (
	tenant VARCHAR(63) NOT NULL, 
	dataset VARCHAR(32) NOT NULL, 
	number INTEGER NOT NULL, 
	size BIGINT NOT NULL, 
	PRIMARY KEY (tenant, dataset, number), 
	FOREIGN KEY(tenant, dataset) REFERENCES datasets (tenant, id)
);
INSERT INTO "chunks" VALUES('hospital','abababababababababababababababab',0,1000);
INSERT INTO "chunks" VALUES('hospital','abababababababababababababababab',1,1000);
INSERT INTO "chunks" VALUES('hospital','abababababababababababababababab',2,1000);
INSERT INTO "chunks" VALUES('hospital','abababababababababababababababab',3,1000);
INSERT INTO "chunks" VALUES('rival','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',0,1000);
INSERT INTO "chunks" VALUES('rival','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',1,1000);
CREATE TABLE datasets (
	tenant VARCHAR(63) NOT NULL, 
	id VARCHAR(32) NOT NULL, 
	digest VARCHAR(64) NOT NULL, 
	manifest TEXT NOT NULL, 
	complete BOOLEAN NOT NULL, 
	created_at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (tenant, id)
);
INSERT INTO "datasets" VALUES('hospital','abababababababababababababababab','be32f2f81f7e913eb946e14619967d8c92ea491dce4914c5085c5f9b796e8593','{"chunk_ciphertext_bytes":1000,"chunk_examples":10,"chunk_sha256":["541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53","353c38352a855c80f4ecb0793a76493228541b5fab5ef7af26effac91e77ec46","62923de3afb82e5f258f64af6e47a62706a63680e3fd398e2806e1a4d576809c","915d3c02390ff83c51d44ed628cea5a48fa4481363ad7b4f9f1aa7736204356d"],"classes":10,"dataset_id":"abababababababababababababababab","examples":40,"input_dtype":"uint8","input_shape":[8,8],"target_shape":[],"task":"classification","version":1}',1,'2026-11-28T08:47:20.037Z');
INSERT INTO "datasets" VALUES('rival','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd','c85d2777ab232886b3881c14040827394b2a107d2c5a7b1b4ca6318a98ae983c','{"chunk_ciphertext_bytes":1000,"chunk_examples":10,"chunk_sha256":["541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53","353c38352a855c80f4ecb0793a76493228541b5fab5ef7af26effac91e77ec46"],"classes":10,"dataset_id":"cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd","examples":20,"input_dtype":"uint8","input_shape":[8,8],"target_shape":[],"task":"classification","version":1}',1,'2026-11-28T08:47:21.798Z');
CREATE TABLE events (
	job VARCHAR(32) NOT NULL, 
	sequence INTEGER NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	exchanges_done INTEGER NOT NULL, 
	failure VARCHAR(32), 
	at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (job, sequence), 
	FOREIGN KEY(job) REFERENCES jobs (id)
);
INSERT INTO "events" VALUES('d72bddd0844ffb4a5039670a4ddc7122',1,'created',0,NULL,'2026-11-28T08:47:20.404Z');
INSERT INTO "events" VALUES('d72bddd0844ffb4a5039670a4ddc7122',2,'launching',0,NULL,'2026-11-28T08:47:20.421Z');
INSERT INTO "events" VALUES('d72bddd0844ffb4a5039670a4ddc7122',3,'awaiting-grant',0,NULL,'2026-11-28T08:47:20.440Z');
INSERT INTO "events" VALUES('d72bddd0844ffb4a5039670a4ddc7122',4,'building',0,NULL,'2026-11-28T08:47:20.469Z');
INSERT INTO "events" VALUES('d72bddd0844ffb4a5039670a4ddc7122',5,'training',1,NULL,'2026-11-28T08:47:20.484Z');
INSERT INTO "events" VALUES('d72bddd0844ffb4a5039670a4ddc7122',6,'training',2,NULL,'2026-11-28T08:47:20.497Z');
INSERT INTO "events" VALUES('d72bddd0844ffb4a5039670a4ddc7122',7,'training',3,NULL,'2026-11-28T08:47:20.506Z');
INSERT INTO "events" VALUES('d72bddd0844ffb4a5039670a4ddc7122',8,'succeeded',3,NULL,'2026-11-28T08:47:20.705Z');
INSERT INTO "events" VALUES('4c1cca099f12e59b1c49129187982f4a',1,'created',0,NULL,'2026-11-28T08:47:21.776Z');
INSERT INTO "events" VALUES('4c1cca099f12e59b1c49129187982f4a',2,'launching',0,NULL,'2026-11-28T08:47:21.790Z');
INSERT INTO "events" VALUES('4c1cca099f12e59b1c49129187982f4a',3,'cancelled',0,NULL,'2026-11-28T08:47:21.792Z');
INSERT INTO "events" VALUES('6fb17c1b21995f5d241c9565aeee0c19',1,'created',0,NULL,'2026-11-28T08:47:21.882Z');
INSERT INTO "events" VALUES('6fb17c1b21995f5d241c9565aeee0c19',2,'launching',0,NULL,'2026-11-28T08:47:21.889Z');
INSERT INTO "events" VALUES('6fb17c1b21995f5d241c9565aeee0c19',3,'awaiting-grant',0,NULL,'2026-11-28T08:47:21.899Z');
INSERT INTO "events" VALUES('6fb17c1b21995f5d241c9565aeee0c19',4,'building',0,NULL,'2026-11-28T08:47:21.907Z');
INSERT INTO "events" VALUES('6fb17c1b21995f5d241c9565aeee0c19',5,'training',1,NULL,'2026-11-28T08:47:21.910Z');
INSERT INTO "events" VALUES('6fb17c1b21995f5d241c9565aeee0c19',6,'training',2,NULL,'2026-11-28T08:47:21.914Z');
INSERT INTO "events" VALUES('6fb17c1b21995f5d241c9565aeee0c19',7,'training',3,NULL,'2026-11-28T08:47:21.917Z');
CREATE TABLE jobs (
	id VARCHAR(32) NOT NULL, 
	tenant VARCHAR(63) NOT NULL, 
	spec TEXT NOT NULL, 
	state VARCHAR(20) NOT NULL, 
	exchanges INTEGER NOT NULL, 
	exchanges_done INTEGER NOT NULL, 
	failure VARCHAR(32), 
	created_at VARCHAR(32) NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "jobs" VALUES('d72bddd0844ffb4a5039670a4ddc7122','hospital','{"builder_sha256":"1dd0456ea614e44a3b8bdd1e24d919ab5a4d603c8068c5c81f8289d44979093f","dataset":{"chunk_ciphertext_bytes":1000,"chunk_examples":10,"chunk_sha256":["541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53","353c38352a855c80f4ecb0793a76493228541b5fab5ef7af26effac91e77ec46","62923de3afb82e5f258f64af6e47a62706a63680e3fd398e2806e1a4d576809c","915d3c02390ff83c51d44ed628cea5a48fa4481363ad7b4f9f1aa7736204356d"],"classes":10,"dataset_id":"abababababababababababababababab","examples":40,"input_dtype":"uint8","input_shape":[8,8],"target_shape":[],"task":"classification","version":1},"envelope":{"max_graph_bytes":262144,"max_parameters":1000,"max_steps":20000},"exchange":{"clip_norm":null,"deadline_s":0,"dtype":"float32","exchanges":3,"merge":"mean","mode":"local","outer_learning_rate":1,"outer_momentum":0,"parameters":1000,"period_s":0,"shards":1,"staleness":4,"trainer_checkpoints":true,"trainers":2,"trim":0},"job":"d72bddd0844ffb4a5039670a4ddc7122","query_rows":64,"seed":0,"trials":1,"validation_percent":10,"version":1}','succeeded',3,3,NULL,'2026-11-28T08:47:20.402Z');
INSERT INTO "jobs" VALUES('4c1cca099f12e59b1c49129187982f4a','hospital','{"builder_sha256":"1dd0456ea614e44a3b8bdd1e24d919ab5a4d603c8068c5c81f8289d44979093f","dataset":{"chunk_ciphertext_bytes":1000,"chunk_examples":10,"chunk_sha256":["541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53","353c38352a855c80f4ecb0793a76493228541b5fab5ef7af26effac91e77ec46","62923de3afb82e5f258f64af6e47a62706a63680e3fd398e2806e1a4d576809c","915d3c02390ff83c51d44ed628cea5a48fa4481363ad7b4f9f1aa7736204356d"],"classes":10,"dataset_id":"abababababababababababababababab","examples":40,"input_dtype":"uint8","input_shape":[8,8],"target_shape":[],"task":"classification","version":1},"envelope":{"max_graph_bytes":262144,"max_parameters":1000,"max_steps":20000},"exchange":{"clip_norm":null,"deadline_s":0,"dtype":"float32","exchanges":3,"merge":"mean","mode":"local","outer_learning_rate":1,"outer_momentum":0,"parameters":1000,"period_s":0,"shards":1,"staleness":4,"trainer_checkpoints":true,"trainers":2,"trim":0},"job":"4c1cca099f12e59b1c49129187982f4a","query_rows":64,"seed":0,"trials":1,"validation_percent":10,"version":1}','cancelled',3,0,NULL,'2026-11-28T08:47:21.776Z');
INSERT INTO "jobs" VALUES('6fb17c1b21995f5d241c9565aeee0c19','hospital','{"builder_sha256":"1dd0456ea614e44a3b8bdd1e24d919ab5a4d603c8068c5c81f8289d44979093f","dataset":{"chunk_ciphertext_bytes":1000,"chunk_examples":10,"chunk_sha256":["541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53","353c38352a855c80f4ecb0793a76493228541b5fab5ef7af26effac91e77ec46","62923de3afb82e5f258f64af6e47a62706a63680e3fd398e2806e1a4d576809c","915d3c02390ff83c51d44ed628cea5a48fa4481363ad7b4f9f1aa7736204356d"],"classes":10,"dataset_id":"abababababababababababababababab","examples":40,"input_dtype":"uint8","input_shape":[8,8],"target_shape":[],"task":"classification","version":1},"envelope":{"max_graph_bytes":262144,"max_parameters":1000,"max_steps":20000},"exchange":{"clip_norm":null,"deadline_s":0,"dtype":"float32","exchanges":3,"merge":"mean","mode":"local","outer_learning_rate":1,"outer_momentum":0,"parameters":1000,"period_s":0,"shards":1,"staleness":4,"trainer_checkpoints":true,"trainers":2,"trim":0},"job":"6fb17c1b21995f5d241c9565aeee0c19","query_rows":64,"seed":0,"trials":1,"validation_percent":10,"version":1}','training',3,3,NULL,'2026-11-28T08:47:21.882Z');
CREATE TABLE launches (
	id VARCHAR(16) NOT NULL, 
	job VARCHAR(32) NOT NULL, 
	role VARCHAR(20) NOT NULL, 
	number INTEGER NOT NULL, 
	name VARCHAR(200), 
	token_sha256 VARCHAR(64) NOT NULL, 
	launched_at VARCHAR(32) NOT NULL, 
	exited_at VARCHAR(32), 
	exit_code INTEGER, 
	PRIMARY KEY (id), 
	FOREIGN KEY(job) REFERENCES jobs (id)
);
INSERT INTO "launches" VALUES('4457050793f7ba7c','d72bddd0844ffb4a5039670a4ddc7122','parameter-server',0,'parameter-server-0','983cfa1ec715cd147f33e90801278537d6f9e0e41327a7a73421e8bf1e797608','2026-11-28T08:47:20.428Z','2026-11-28T08:47:20.745Z',0);
INSERT INTO "launches" VALUES('0dcc2ea7df2a1136','d72bddd0844ffb4a5039670a4ddc7122','trainer',0,'trainer-0','9d886e541b36af159181de9d0eeb9d9fd3f07f762c09c6202a8c5b29bd59db3f','2026-11-28T08:47:20.431Z','2026-11-28T08:47:20.718Z',0);
INSERT INTO "launches" VALUES('7cf5964e6866d449','d72bddd0844ffb4a5039670a4ddc7122','trainer',1,'trainer-1','1178756d005ef913a66761a6a7630fbecec719ece13b1b8e79acc6a3dc8a216e','2026-11-28T08:47:20.434Z','2026-11-28T08:47:20.499Z',0);
INSERT INTO "launches" VALUES('a3bf59b16c133ffb','d72bddd0844ffb4a5039670a4ddc7122','predictor',0,NULL,'7ecd00c315af424e2dd9906bf95990246a733d6f75bf474cf5cdc86bbf2a60f2','2026-11-28T08:47:20.813Z',NULL,NULL);
INSERT INTO "launches" VALUES('ede2d42accd5d9bf','4c1cca099f12e59b1c49129187982f4a','parameter-server',0,NULL,'01d3af79ca1f4b7790f862b4aee9d80d2d63b100add8dd03b29d881fda9d3e6d','2026-11-28T08:47:21.794Z',NULL,NULL);
INSERT INTO "launches" VALUES('bb4895338f38f7d8','6fb17c1b21995f5d241c9565aeee0c19','parameter-server',0,NULL,'d0e96730c38bb78ead7bb2b878df5bfab3cee1d0570b74a7240b5c48649db392','2026-11-28T08:47:21.891Z',NULL,NULL);
INSERT INTO "launches" VALUES('be7b885160f1b54a','6fb17c1b21995f5d241c9565aeee0c19','trainer',0,NULL,'09271fe248d71707f5847a6334d41d2e57c1f6d49432824b8c4f5497a00735c4','2026-11-28T08:47:21.894Z',NULL,NULL);
INSERT INTO "launches" VALUES('ed4a317483eb04ff','6fb17c1b21995f5d241c9565aeee0c19','trainer',1,NULL,'be93d2fef61a6b076e892900d98db87f1033192e06cc1dccb9eac708beeefb3f','2026-11-28T08:47:21.895Z',NULL,NULL);
CREATE TABLE objects (
	job VARCHAR(32) NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	size BIGINT NOT NULL, 
	sha256 VARCHAR(64) NOT NULL, 
	blob VARCHAR(200) NOT NULL, 
	PRIMARY KEY (job, name), 
	FOREIGN KEY(job) REFERENCES jobs (id)
);
INSERT INTO "objects" VALUES('d72bddd0844ffb4a5039670a4ddc7122','report-0000',1100,'9973ae83d73875daa789b287cc962ba58af54181d2f3c7db5c613bac8875b623','jobs/d72bddd0844ffb4a5039670a4ddc7122/report-0000/885f0d03ce28682d');
INSERT INTO "objects" VALUES('d72bddd0844ffb4a5039670a4ddc7122','report-0001',1100,'9973ae83d73875daa789b287cc962ba58af54181d2f3c7db5c613bac8875b623','jobs/d72bddd0844ffb4a5039670a4ddc7122/report-0001/86ed64d6096f75e6');
INSERT INTO "objects" VALUES('d72bddd0844ffb4a5039670a4ddc7122','report-0002',1100,'9973ae83d73875daa789b287cc962ba58af54181d2f3c7db5c613bac8875b623','jobs/d72bddd0844ffb4a5039670a4ddc7122/report-0002/5454e83d4577e807');
INSERT INTO "objects" VALUES('d72bddd0844ffb4a5039670a4ddc7122','model',5000,'287a37218b439c358f60e339ea02b94a30c3aded166421bb4774b31b25688d1b','jobs/d72bddd0844ffb4a5039670a4ddc7122/model/425d258dc42c91e8');
INSERT INTO "objects" VALUES('d72bddd0844ffb4a5039670a4ddc7122','outcome',8300,'fd9788867b51e13e73b87cc0dd0b2c6542d5bc9d84468db3e4adae8564057b24','jobs/d72bddd0844ffb4a5039670a4ddc7122/outcome/f46e313e5a66da6f');
CREATE TABLE observations (
	id INTEGER NOT NULL, 
	job VARCHAR(32) NOT NULL, 
	kind VARCHAR(32) NOT NULL, 
	name VARCHAR(128) NOT NULL, 
	size BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(job) REFERENCES jobs (id)
);
INSERT INTO "observations" VALUES(1,'d72bddd0844ffb4a5039670a4ddc7122','grant','to parameter-server-0',5);
INSERT INTO "observations" VALUES(2,'d72bddd0844ffb4a5039670a4ddc7122','object','report-0000',1100);
INSERT INTO "observations" VALUES(3,'d72bddd0844ffb4a5039670a4ddc7122','object','report-0001',1100);
INSERT INTO "observations" VALUES(4,'d72bddd0844ffb4a5039670a4ddc7122','object','report-0002',1100);
INSERT INTO "observations" VALUES(5,'d72bddd0844ffb4a5039670a4ddc7122','object','model',5000);
INSERT INTO "observations" VALUES(6,'d72bddd0844ffb4a5039670a4ddc7122','object','outcome',8300);
INSERT INTO "observations" VALUES(7,'d72bddd0844ffb4a5039670a4ddc7122','query','to predictor-0',5);
INSERT INTO "observations" VALUES(8,'d72bddd0844ffb4a5039670a4ddc7122','answer','from predictor-0',15);
INSERT INTO "observations" VALUES(9,'6fb17c1b21995f5d241c9565aeee0c19','grant','to parameter-server-0',5);
CREATE TABLE schema (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema" VALUES(1);
CREATE INDEX ix_builders_tenant ON builders (tenant);
CREATE INDEX ix_jobs_created_at ON jobs (created_at);
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE INDEX ix_jobs_tenant ON jobs (tenant);
CREATE INDEX ix_launches_job ON launches (job);
CREATE INDEX observations_of_job ON observations (job, id);
COMMIT;