// SPDX-License-Identifier: BSD-3-Clause
// A stand-in for NVIDIA's management library: it answers as a script orders.
//
// NVML_SCRIPT names the script. Each line is what is asked, the device, and the answers, in the
// order of the calls; the last answer is repeated. An answer is a number, a text, E and the number
// of an error, or "hang". What no line is about is answered by error 3, "not supported".

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SUCCESS = 0, NOT_SUPPORTED = 3, MAX_LINES = 256, MAX_ANSWERS = 64 };

struct line {
	char asked[32];
	unsigned device;
	char *answers[MAX_ANSWERS];
	unsigned count, next;
};

struct device {
	unsigned index;
};

static struct line lines[MAX_LINES];
static unsigned line_count;
static struct device devices[MAX_LINES];

static void read_script(void)
{
	char text[4096];
	FILE *script = fopen(getenv("NVML_SCRIPT"), "r");

	while (script && line_count < MAX_LINES && fgets(text, sizeof(text), script)) {
		struct line *line = &lines[line_count];
		char *word = strtok(text, " \n");

		if (!word)
			continue;
		snprintf(line->asked, sizeof(line->asked), "%s", word);
		line->device = strtoul(strtok(NULL, " \n"), NULL, 10);
		while (line->count < MAX_ANSWERS && (word = strtok(NULL, " \n")))
			line->answers[line->count++] = strdup(word);
		line_count++;
	}
	if (script)
		fclose(script);
}

static const char *next_answer(const char *asked, unsigned device)
{
	for (unsigned n = 0; n < line_count; n++) {
		struct line *line = &lines[n];

		if (line->device == device && !strcmp(line->asked, asked))
			return line->answers[line->next + 1 < line->count ? line->next++ : line->next];
	}
	return "E3";
}

// Returns 0 with an answer, else the error that the script orders.
static int answered(const char *asked, unsigned device, const char **answer)
{
	*answer = next_answer(asked, device);
	while (!strcmp(*answer, "hang"))
		pause();
	return **answer == 'E' ? atoi(*answer + 1) : SUCCESS;
}

static int number(const char *asked, unsigned device, unsigned *value)
{
	const char *answer;
	int error = answered(asked, device, &answer);

	if (!error)
		*value = strtoul(answer, NULL, 10);
	return error;
}

static int text(const char *asked, unsigned device, char *value, unsigned length)
{
	const char *answer;
	int error = answered(asked, device, &answer);

	if (!error)
		snprintf(value, length, "%s", answer);
	return error;
}

int nvmlInitWithFlags(unsigned flags)
{
	const char *answer;

	(void)flags;
	if (!line_count)
		read_script();
	return answered("init", 0, &answer) == NOT_SUPPORTED ? SUCCESS : atoi(answer + 1);
}

int nvmlShutdown(void)
{
	return SUCCESS;
}

const char *nvmlErrorString(int error)
{
	(void)error;
	return "an error of the stand-in";
}

int nvmlSystemGetDriverVersion(char *version, unsigned length)
{
	return text("driver", 0, version, length);
}

int nvmlDeviceGetCount_v2(unsigned *count)
{
	return number("count", 0, count);
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, struct device **device)
{
	unsigned unused;

	devices[index].index = index;
	*device = &devices[index];
	return number("handle", index, &unused);
}

int nvmlDeviceGetUUID(struct device *device, char *uuid, unsigned length)
{
	return text("uuid", device->index, uuid, length);
}

int nvmlDeviceGetName(struct device *device, char *name, unsigned length)
{
	return text("name", device->index, name, length);
}

struct memory {
	unsigned long long total, free, used;
};

int nvmlDeviceGetMemoryInfo(struct device *device, struct memory *memory)
{
	const char *total, *used;
	int error = answered("total", device->index, &total);

	if (!error)
		error = answered("used", device->index, &used);
	if (error)
		return error;
	memory->total = strtoull(total, NULL, 10);
	memory->used = strtoull(used, NULL, 10);
	memory->free = memory->total - memory->used;
	return SUCCESS;
}

struct utilisation {
	unsigned gpu, memory;
};

int nvmlDeviceGetUtilizationRates(struct device *device, struct utilisation *utilisation)
{
	utilisation->memory = 0;
	return number("utilisation", device->index, &utilisation->gpu);
}

int nvmlDeviceGetPowerUsage(struct device *device, unsigned *milliwatts)
{
	return number("power", device->index, milliwatts);
}

int nvmlDeviceGetClockInfo(struct device *device, int type, unsigned *mhz)
{
	return number(type == 1 ? "clock" : "another clock", device->index, mhz);
}

int nvmlDeviceGetMigMode(struct device *device, unsigned *current, unsigned *pending)
{
	*pending = 0;
	return number("mig", device->index, current);
}

#ifndef WITHOUT_PCIE
int nvmlDeviceGetPcieThroughput(struct device *device, int counter, unsigned *kilobytes)
{
	return number(counter ? "received" : "sent", device->index, kilobytes);
}
#endif
